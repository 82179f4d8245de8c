"""Many clients at once over real sockets, and what each of them saw."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from tests.fakes.dataplane import Client, client

END = "[DONE]"
PATIENCE_S = 45.0
"""What takes longer is a failure of its own."""


@dataclass(frozen=True)
class Kind:
    """One sort of request: ``fake`` is how the backend answers it, ``size`` pads its body."""

    fake: str
    size: int = 0
    stream: bool = False


MIXED = (
    Kind("delay_s=0.15"),
    Kind("delay_s=0.3; size=40000", size=8_000),
    Kind("delay_s=0.2; framing=chunked; pieces=4; interval_s=0.02; size=9000", size=200_000),
    Kind("delay_s=0.1; chunks=40; interval_s=0.03", stream=True),
    Kind("chunks=12; interval_s=0.05", size=100_000, stream=True),
    Kind("delay_s=0.2; chunks=100; interval_s=0.02; size=400", stream=True),
)
"""Half of them plain, half streams; bodies above 64 KB cross a hop only after ``100 Continue``."""


@dataclass
class Shot:
    """One request as its client saw it."""

    kind: Kind
    model: str
    entry: int
    began_s: float
    ended_s: float = 0.0
    status: int = 0
    """0: no answer."""
    node: str = ""
    backend: str = ""
    """Port of the backend that answered."""
    attempts: int = 0
    whole: bool = False
    events: list[str] = field(default_factory=list)
    text: str = ""

    @property
    def fine(self) -> bool:
        """Whether it is all that was asked for."""
        if self.status != 200 or not self.whole:
            return False
        if self.kind.stream:
            return self.events[-1:] == [END] and not any('"error"' in event for event in self.events)
        return bool(json.loads(self.text)["choices"])

    @property
    def error(self) -> Any:
        """The error object that a cut stream ends with; empty if it does not."""
        last = self.events[-1] if self.events else ""
        return json.loads(last).get("error", {}) if last.startswith("{") else {}

    def __str__(self) -> str:
        """For messages."""
        sort = "stream" if self.kind.stream else "plain"
        took_s = self.ended_s - self.began_s
        return (
            f"{sort} {self.model} by {self.node}/{self.backend}: {self.status} after {took_s:.2f} s, "
            f"{self.attempts} attempts, whole={self.whole}, {self.text[-300:]!r}"
        )


class Storm:
    """Clients on keep-alive connections to ``entries``, each asking again as soon as it was answered.

    Args:
        entries: Ports of client listeners.
        models: Asked for in turn.
        clients: That many requests run at any time.
        kinds: Drawn from.
    """

    def __init__(
        self, entries: Sequence[int], models: Sequence[str], clients: int, kinds: Sequence[Kind] = MIXED
    ) -> None:
        self._entries, self._models, self._clients, self._kinds = entries, models, clients, kinds
        self.shots: list[Shot] = []

    def run(self, seconds: float, events: Sequence[tuple[float, Callable[[], object]]] = ()) -> None:
        """Storm for ``seconds``; ``events`` are things to do after so many of them."""
        asyncio.run(self._run(seconds, events))

    async def _run(self, seconds: float, events: Sequence[tuple[float, Callable[[], object]]]) -> None:
        ends_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(number, ends_s))
            for after_s, act in events:
                group.create_task(_later(after_s, act))

    async def _client(self, number: int, ends_s: float) -> None:
        random, entry = Random(number), self._entries[number % len(self._entries)]
        turns = count(number)
        while time.monotonic() < ends_s:
            with contextlib.suppress(OSError):
                async with client(entry) as http:
                    while time.monotonic() < ends_s:
                        turn = next(turns)
                        model = self._models[turn % len(self._models)]
                        if not await self._ask(http, random.choice(self._kinds), model, entry):
                            break

    async def _ask(self, http: Client, kind: Kind, model: str, entry: int) -> bool:
        """Whether the connection may be used again."""
        shot = Shot(kind, model, entry, time.monotonic())
        messages = [{"role": "user", "content": "x" * kind.size}]
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await http.ask(
                    {"model": model, "stream": kind.stream, "messages": messages}, x_fake=kind.fake
                )
        except (OSError, EOFError) as error:
            shot.text = repr(error)
            return False
        else:
            shot.status, shot.whole, shot.text = answer.status, answer.whole, answer.body.decode()
            shot.node = answer.headers.get("x-swarm-node", "")
            shot.backend = answer.headers.get("x-backend-port", "")
            shot.attempts = int(answer.headers.get("x-swarm-attempts", "0"))
            shot.events = answer.events if kind.stream else []
            return answer.whole and answer.headers.get("connection") != "close" and shot.fine
        finally:
            shot.ended_s = time.monotonic()
            self.shots.append(shot)

    def summary(self) -> str:
        """How many of which sort ended how, for the log."""
        sorts = Counter(
            (
                "stream" if shot.kind.stream else "plain",
                "fine" if shot.fine else f"{shot.status}",
                f"{shot.attempts} attempts",
            )
            for shot in self.shots
        )
        return ", ".join(f"{' '.join(sort)}: {number}" for sort, number in sorted(sorts.items()))


async def _later(seconds: float, act: Callable[[], object]) -> None:
    await asyncio.sleep(seconds)
    await asyncio.to_thread(act)
