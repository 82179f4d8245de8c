"""Asking an engine whether it is ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import aiohttp

from sidecar.backends.listing import ListingError, read_models
from sidecar.engines.programs import Program

_OK: Final = 200
_MAX_BODY_BYTES: Final = 1024 * 1024


class Answer(Enum):
    """What it said."""

    NONE = auto()
    """Nothing listens yet, or it does not answer in time."""
    LOADING = auto()
    READY = auto()
    STRANGER = auto()
    """Something else has the port."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one engine on 127.0.0.1."""

    session: aiohttp.ClientSession
    program: Program
    port: int
    alias: str
    key: str = field(repr=False)

    async def first(self) -> Answer:
        """Whether it is ready, and the engine we started. Never raises."""
        if not self.program.serial:
            answer = await self.again()
            if answer is not Answer.READY:
                return answer
        status, body = await self.ask("/v1/models")
        if status != _OK:
            return Answer.NONE if self.program.serial else Answer.LOADING
        try:
            _, models = read_models(body)
        except ListingError:
            return Answer.STRANGER
        return Answer.READY if any(model.name == self.alias for model in models) else Answer.STRANGER

    async def again(self) -> Answer:
        """Whether it still answers; cheap, and harmless while it generates. Never raises."""
        status, _ = await self.ask("/health")
        if status == 0:
            return Answer.NONE
        # llama-cpp-python's server has no such path: any answer shows that it lives.
        return Answer.READY if status == _OK or self.program.serial else Answer.LOADING

    async def ask(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body; 0 where there is no answer. With a ``body`` it is a POST. Never raises."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            call = self.session.post if body else self.session.get
            async with call(url, headers=headers, allow_redirects=False, data=body or None) as answer:
                read = bytearray()
                async for chunk in answer.content.iter_chunked(1 << 16):
                    read += chunk[: _MAX_BODY_BYTES - len(read)]
                return answer.status, bytes(read)
        except (aiohttp.ClientError, OSError):
            return 0, b""
