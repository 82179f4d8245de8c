"""With which context the models of this host are loaded, and what is sent to them so that they stay so.

What a server said last is a few seconds old, and a request that names a greater context changes it. Until the
server was asked again after such a request, the model is taken to be loaded as that request wanted it: the
next one, which names none, must not load it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from sidecar.core.context import RELOADING, Protection, Room, holds, lowered, sending
from sidecar.dataplane.room import with_answer, with_context

if TYPE_CHECKING:
    from sidecar.core.candidate import Candidate
    from sidecar.dataplane.peek import Body
    from sidecar.dataplane.ports import Backends, Clock
    from swarmplane.ids import EndpointId
    from swarmplane.routes import Endpoint

_LONGEST_S: Final = 900.0
"""Whatever became of a request that loads a model, after so long it says nothing any more."""
_LOOKS: Final = 2
"""A look that was under way when the request ended saw what was before; the one after it does not."""
_MOST: Final = 4096
_WARN_EVERY_S: Final = 60.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Suit:
    """What was read of a request that not every endpoint suits, and what was done about it."""

    __slots__ = ("asked", "lowered", "named", "protection", "reloads", "room")

    def __init__(self, asked: int, room: Room, protection: Protection) -> None:
        self.asked = asked
        """The context that it names; 0: none."""
        self.room = room
        self.protection = protection
        self.lowered = 0
        """The most its answer may get, where that is less than it asked for; 0: as it asked."""
        self.named = 0
        """The context that it was sent with to a server that may load a model for it; 0: none."""
        self.reloads = False
        """Whether it makes a loaded model load again."""

    def lines(self) -> bytes:
        """Header lines that tell the client."""
        lines = b"x-swarm-max-tokens: %d\r\n" % self.lowered if self.lowered else b""
        if self.reloads:
            lines += (
                b'warning: 299 - "num_ctx %d is not the loaded context: the model loads again"\r\n'
                % self.asked
            )
        return lines


class _Presumed:
    __slots__ = ("context", "known_at", "since_s")

    def __init__(self, context: int, since_s: float) -> None:
        self.context = context
        self.since_s = since_s
        self.known_at: int | None = None
        """Looks at the server after which it is known; None: the request is under way."""


class Contexts:
    """Lives on the event loop; nothing here waits.

    Args:
        backends: This host's servers.
        clock: Monotonic.
    """

    def __init__(self, backends: Backends, clock: Clock) -> None:
        self._backends = backends
        self._clock_s = clock
        self._presumed: dict[EndpointId, _Presumed] = {}
        self._warned_s: dict[EndpointId, float] = {}

    def resident(self, endpoint: Endpoint) -> int:
        """The context that an own ``endpoint`` is loaded with; 0: not loaded, or unknown."""
        presumed = self._presumed.get(endpoint.id)
        if presumed is not None:
            looks = self._backends.looks(endpoint.backend)
            over = presumed.known_at is not None and looks >= presumed.known_at
            if not over and self._clock_s() - presumed.since_s < _LONGEST_S:
                return presumed.context
            del self._presumed[endpoint.id]
        found = self._backends.resident(endpoint.backend, endpoint.model)
        return found.context if found is not None else 0

    def adapt(self, suit: Suit, candidate: Candidate, path: bytes, body: Body) -> Body:
        """``body`` as it goes to the own ``candidate`` at its ``path``, so that it stays within contexts."""
        endpoint = candidate.endpoint
        resident = self.resident(endpoint) if endpoint.kind == RELOADING else 0
        suit.lowered = lowered(suit.room, holds(endpoint, resident, suit.asked, suit.protection))
        if suit.lowered:
            body = with_answer(path, body, suit.lowered)
        if endpoint.kind != RELOADING:
            return body
        how = sending(suit.asked, resident, suit.protection)
        suit.reloads = how.reloads and suit.protection is not Protection.PASSTHROUGH
        suit.named = how.context or suit.asked
        if suit.named and suit.named != resident and len(self._presumed) < _MOST:
            self._presumed[endpoint.id] = _Presumed(suit.named, self._clock_s())
        if how.reloads:
            self._warn(endpoint, suit.asked, resident)
        return with_context(body, how.context) if how.context else body

    def ended(self, suit: Suit, endpoint: Endpoint) -> None:
        """A request that was adapted for the own ``endpoint`` is over, however it ended."""
        if endpoint.kind != RELOADING:
            return
        presumed = self._presumed.get(endpoint.id)
        if presumed is not None and presumed.known_at is None and presumed.context == suit.named:
            presumed.known_at = self._backends.looks(endpoint.backend) + _LOOKS
        elif self._backends.resident(endpoint.backend, endpoint.model) is not None:
            return
        self._backends.look(endpoint.backend)

    def _warn(self, endpoint: Endpoint, asked: int, resident: int) -> None:
        now_s = self._clock_s()
        if now_s - self._warned_s.get(endpoint.id, -_WARN_EVERY_S) < _WARN_EVERY_S:
            return
        if len(self._warned_s) >= _MOST:
            self._warned_s.clear()
        self._warned_s[endpoint.id] = now_s
        log.warning(
            "model.reloads",
            backend=endpoint.backend,
            model=endpoint.model,
            num_ctx=asked,
            resident_context=resident,
        )
