"""Asking one backend how it is and which models it has."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

import aiohttp

from sidecar.backends.listing import (
    LLAMA_CPP_PYTHON,
    LLAMA_SERVER,
    WITH_HEALTH,
    WITH_METRICS,
    ListingError,
    read_json,
    read_kv_used,
    read_models,
    read_props,
)
from sidecar.backends.ollama import OLLAMA
from sidecar.backends.ollama_probe import Ask, Shelf, is_ollama, look
from sidecar.backends.spoken import spoken
from sidecar.backends.target import BackendSpec, Target
from sidecar.core.residents import Resident
from swarmplane.inventory import BackendModel

CONNECT_S: Final = 2.0
ANSWER_S: Final = 5.0
_MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_UNAVAILABLE: Final = 503


class Health(Enum):
    """Outcome of one probe."""

    OK = auto()
    BUSY = auto()
    """It took the connection but did not answer in time: serial servers do that while they generate."""
    DOWN = auto()
    NODE = auto()
    """It is a node of a swarm: forwarding to it could go round in circles."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found. ``models`` and figures stand only where it is OK."""

    health: Health
    reason: str = ""
    """For people; no addresses, no secrets."""
    kind: str = ""
    models: tuple[BackendModel, ...] | None = ()
    """None: not asked, as they were."""
    slots: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kv_used: float | None = None
    """Share of its context memory in use; None: it does not tell."""
    residents: Mapping[str, Resident] = field(default_factory=dict)
    """What is loaded with which context, by the backend's spelling, where it tells."""
    dialects: frozenset[str] | None = None
    """Which it speaks itself; None: not asked, as they were."""
    more: bool = False
    """Whether it has more to tell at once."""


class Prober:
    """Probes over one HTTP client, which ignores proxy variables and follows no redirects."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def probe(self, spec: BackendSpec, kind: str, shelf: Shelf) -> Finding:
        """Ask the backend; ``kind`` is what it was found to be before, empty the first time. Never raises.

        ``shelf`` keeps what need not be asked again.
        """
        try:
            headers = await asyncio.to_thread(_credentials, spec)
        except (OSError, ValueError):
            return Finding(Health.DOWN, "its key file can't be read")
        target = Target(spec.name, kind, spec.host, spec.port, spec.tls, spec.base_path, headers)
        try:
            return await self._with_dialects(target, await self._ask(target, shelf))
        except ListingError as error:
            return Finding(Health.DOWN, str(error))
        except aiohttp.ClientConnectorCertificateError:
            return Finding(Health.DOWN, "its certificate is not trusted")
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError, OSError) as error:
            return _unreachable(error)
        except aiohttp.ClientError:
            return Finding(Health.DOWN, "it does not answer as an HTTP server does")

    async def _ask(self, target: Target, shelf: Shelf) -> Finding:
        if not target.kind and await self._is_node(target):
            return Finding(Health.NODE, "it is a Swarmplane node, not a backend; join its swarm instead")
        if target.kind == OLLAMA or (not target.kind and await is_ollama(self._asking(target))):
            return await self._ask_ollama(target, shelf)
        return await self._ask_openai(target)

    async def _ask_openai(self, target: Target) -> Finding:
        if target.kind == LLAMA_CPP_PYTHON:
            await self._get(target, "/health")  # it has none: any answer shows that it lives
            return Finding(Health.OK, "", target.kind, None, headers=target.headers)
        if target.kind in WITH_HEALTH:
            status, _ = await self._get(target, "/health")
            if status != _OK:
                return Finding(Health.DOWN, _refused(status))
        status, body = await self._get(target, "/v1/models")
        if status != _OK:
            return Finding(Health.DOWN, _refused(status))
        kind, listed = read_models(body)
        if kind == LLAMA_SERVER:
            return await self._with_props(target, listed)
        kv_used = await self._kv_used(target) if kind in WITH_METRICS else None
        return Finding(Health.OK, "", kind, listed, headers=target.headers, kv_used=kv_used)

    async def _ask_ollama(self, target: Target, shelf: Shelf) -> Finding:
        found = await look(self._asking(target), shelf)
        if isinstance(found, int):
            return Finding(Health.DOWN, _refused(found))
        return Finding(
            Health.OK,
            "",
            OLLAMA,
            found.models,
            headers=target.headers,
            residents=found.residents,
            more=shelf.missing,
        )

    async def _kv_used(self, target: Target) -> float | None:
        try:
            status, body = await self._get(target, "/metrics")
        except (ListingError, aiohttp.ClientError, OSError):
            return None
        return read_kv_used(body.decode(errors="replace")) if status == _OK else None

    async def _with_props(self, target: Target, listed: tuple[BackendModel, ...]) -> Finding:
        status, body = await self._get(target, "/props")
        if status in {_UNAUTHORIZED, _FORBIDDEN}:  # its list of models is public, nothing else is
            return Finding(Health.DOWN, _refused(status))
        finding = Finding(Health.OK, "", LLAMA_SERVER, listed, headers=target.headers)
        if status != _OK:  # a router of several models has none
            return finding
        context, slots, quantization = read_props(body)
        models = tuple(
            replace(
                model,
                context_length=context or model.context_length,
                quantization=model.quantization or quantization,
            )
            for model in listed
        )
        return replace(finding, models=models, slots=slots)

    async def _with_dialects(self, target: Target, finding: Finding) -> Finding:
        """``finding``, with the dialects of one that was not known before."""
        if target.kind or finding.health is not Health.OK:
            return finding
        return replace(finding, dialects=await spoken(finding.kind, functools.partial(self._try, target)))

    async def _try(self, target: Target, path: str, body: bytes) -> tuple[int, bytes]:
        """As :meth:`_get`; of one who does not answer the status is 0."""
        try:
            return await self._get(target, path, body)
        except (ListingError, aiohttp.ClientError, OSError):
            return 0, b""

    async def _is_node(self, target: Target) -> bool:
        status, body = await self._get(replace(target, headers=()), "/.well-known/swarmplane")
        if status != _OK:
            return False
        try:
            return "swarm" in read_json(body)
        except ListingError:
            return False

    def _asking(self, target: Target) -> Ask:
        return functools.partial(self._get, target)

    async def _get(self, target: Target, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """With a ``body`` it is a POST."""
        headers = {name.decode(): value.decode() for name, value in target.headers}
        if body:
            headers["content-type"] = "application/json"
        call = self._session.post if body else self._session.get
        async with call(
            target.url + path, headers=headers, allow_redirects=False, data=body or None
        ) as answer:
            read = bytearray()
            async for chunk in answer.content.iter_chunked(1 << 16):
                read += chunk
                if len(read) > _MAX_BODY_BYTES:
                    raise ListingError("its answer is too long")
            return answer.status, bytes(read)


def client_session() -> aiohttp.ClientSession:
    """A client for :class:`Prober`; to be closed by the caller."""
    return aiohttp.ClientSession(
        # Probes are seconds apart: a kept connection would be closed by the server just when it is used.
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        timeout=aiohttp.ClientTimeout(total=CONNECT_S + ANSWER_S, sock_connect=CONNECT_S, sock_read=ANSWER_S),
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept": "application/json", "accept-encoding": "identity"},
    )


def _credentials(spec: BackendSpec) -> tuple[tuple[bytes, bytes], ...]:
    """Read the key anew each time, so that a rotated one is used without a restart. It blocks."""
    if spec.key_file is None:
        return ()
    key = spec.key_file.read_text(encoding="ascii").strip()
    if not key or not key.isprintable():
        raise ValueError("not a key")
    return ((b"authorization", f"Bearer {key}".encode("ascii")),)


def _unreachable(error: Exception) -> Finding:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Finding(Health.DOWN, "it can't be reached")
    if isinstance(error, TimeoutError):
        return Finding(Health.BUSY, "it does not answer in time")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        return Finding(Health.DOWN, "nothing listens there")
    if isinstance(cause, ssl.SSLError):
        return Finding(Health.DOWN, "TLS with it fails")
    return Finding(Health.DOWN, "it can't be reached")


def _refused(status: int) -> str:
    if status == _UNAUTHORIZED:
        return "it refuses our key"
    if status == _FORBIDDEN:
        return "it forbids us to list its models"
    if status == _UNAVAILABLE:
        return "it is still loading, or too busy"
    return f"it answers with HTTP status {status}"
