"""What was measured of endpoints on disk, so that a sidecar that starts anew chooses as well as before.

A hint, never a truth: damaged, of another format, or too large, it is left alone and everything is measured
anew. Old figures are believed less the older they are (see :mod:`sidecar.core.estimates`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from sidecar.core.estimates import LatencyState, States
from sidecar.core.estimates_history import History
from swarmplane.clock import Clock
from swarmplane.datadir import write_atomically
from swarmplane.ids import EndpointId, NodeId

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SAVE_EVERY_S: Final = 60.0
MOST_ENTRIES: Final = 4096
"""Those measured last are kept."""
MOST_AGE_S: Final = 30 * 86_400.0
"""Older figures are of another time."""
_MAGIC: Final = b"swarmplane history 1\n"
_DIGEST_BYTES: Final = 32
_MOST_BYTES: Final = 64 * 1024 * 1024
_SLICE: Final = 32
"""Entries between two looks at the loop: about 1 ms."""


@dataclass(frozen=True, slots=True)
class _Entry:
    model: str
    endpoint: str
    """Empty: the model anywhere."""
    state: LatencyState


@dataclass(frozen=True, slots=True)
class _Head:
    saved_at_s: float
    """Unix time."""
    entries: int
    round_trips_s: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)


def load_history(path: Path, history: History, now_s: float, unix_s: float) -> int:
    """Put what is at ``path`` into ``history``; how many entries that were. It blocks for disk.

    Nothing there, or nothing usable: 0, and a warning in the log if something was there.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        head, states = _read(path.read_bytes())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        log.warning("history.unusable", path=str(path), reason=str(error))
        return 0
    passed_s = max(unix_s - head.saved_at_s, 0.0)
    aged = {
        key: replace(state, age_s=state.age_s + passed_s)
        for key, state in states.items()
        if state.age_s + passed_s < MOST_AGE_S
    }
    history.restore(aged, now_s)
    for node, round_trip_s in head.round_trips_s.items():
        if 0.0 < round_trip_s < _LONGEST_TRIP_S:
            history.node(NodeId(node)).round_trip_s = round_trip_s
    for endpoint, tokens_per_s in head.rates.items():
        history.decoded("", EndpointId(endpoint), tokens_per_s)
    return len(aged)


_LONGEST_TRIP_S: Final = 10.0


def _read(content: bytes) -> tuple[_Head, States]:
    body = content[len(_MAGIC) + _DIGEST_BYTES :]
    digest = content[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]
    if not content.startswith(_MAGIC):
        raise ValueError("of an unknown format")
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("damaged")
    first, *lines = body.splitlines()
    head = msgspec.json.decode(first, type=_Head)
    decode = msgspec.json.Decoder(_Entry).decode
    entries = [decode(line) for line in lines[:MOST_ENTRIES]]
    return head, {(one.model, one.endpoint): one.state for one in entries}


class HistoryKeeper:
    """Writes ``history`` to ``path`` once a minute and at the end. Holds the loop for about a millisecond."""

    def __init__(self, path: Path, history: History, clock: Clock, unix_s: Callable[[], float]) -> None:
        self._path = path
        self._history = history
        self._clock = clock
        self._unix_s = unix_s
        self._failed = False
        self._saving = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled. A full disk is said once, and tried again."""
        while True:
            await self._clock.sleep(SAVE_EVERY_S)
            await self.save()

    async def save(self) -> None:
        """Write what is known now, if anything is."""
        async with self._saving:
            content = await self._content()
            if content is None:
                return
            try:
                await asyncio.to_thread(write_atomically, self._path, content)
            except OSError as error:
                if not self._failed:
                    log.warning("history.not_saved", path=str(self._path), reason=str(error))
                self._failed = True
            else:
                self._failed = False

    async def _content(self) -> bytes | None:
        history, now_s = self._history, self._clock.now_s()
        found = sorted(history.measured(), key=lambda entry: -entry[2].at_s)[:MOST_ENTRIES]
        if not found:
            return None
        head = _Head(
            self._unix_s(),
            len(found),
            {node: known.round_trip_s for node, known in list(history.by_node.items())[-MOST_ENTRIES:]},
            dict(list(history.rates.items())[-MOST_ENTRIES:]),
        )
        encode = msgspec.json.Encoder().encode
        lines = [encode(head)]
        for number, (model, endpoint, latency) in enumerate(found, 1):
            lines.append(encode(_Entry(model, endpoint, latency.export(now_s))))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        body = b"\n".join(lines)
        return _MAGIC + hashlib.sha256(body).digest() + body
