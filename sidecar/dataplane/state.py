"""What one request holds while it is served."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sidecar.core.attempts import Progress
from sidecar.core.candidate import Candidate
from sidecar.core.stalls import Pace
from sidecar.dataplane.plan import Plan
from sidecar.dataplane.recording import Noted
from sidecar.dataplane.relay import Relay
from sidecar.dataplane.request import Request
from sidecar.dataplane.upstream import Sink

if TYPE_CHECKING:
    from sidecar.dataplane.connection import ClientConnection
    from sidecar.dataplane.owner_line import Place
    from sidecar.dataplane.second_copy import SecondCopy
    from sidecar.dataplane.server import DataPlane
    from sidecar.dataplane.upstream import Upstream
    from sidecar.dialects.translate import Outgoing
    from sidecar.routing.balancing import Stake

_FRESH: Final = Progress()
_NEVER: Final = math.inf


class State(Sink):
    """From the whole request on; see :mod:`.attempting` for what becomes of it."""

    __slots__ = (
        "_asked",
        "_budgeted",
        "_candidate",
        "_chain",
        "_copied",
        "_copy",
        "_counting",
        "_cut",
        "_dispatched_s",
        "_finished",
        "_first_byte_by_s",
        "_heard_s",
        "_moved",
        "_next_phase_s",
        "_opened",
        "_pace",
        "_paused_s",
        "_place",
        "_plan",
        "_plane",
        "_planned_s",
        "_progress",
        "_queued_since_s",
        "_ran_at_s",
        "_relay",
        "_retry",
        "_sampled",
        "_stake",
        "_started_s",
        "_upstream",
        "connection",
        "noted",
        "outgoing",
        "plan",
        "rename",
        "request",
    )

    _plan: Plan
    """:attr:`plan`, once there is one: what runs has one."""

    def __init__(self, plane: DataPlane, connection: ClientConnection, request: Request) -> None:
        self._plane = plane
        self.connection = connection
        self.request = request
        self.plan: Plan | None = None
        self.rename = b""
        """The asked name as JSON text, where the backend spells it differently."""
        self.outgoing: Outgoing | None = None
        """What is sent, where the backend speaks another dialect."""
        trace = plane.recorder.begin_trace(
            request.traceparent, request.head.tracestate, hop=connection.peer is not None
        )
        self.noted = Noted(trace, request.size, connection.bytes_out)
        self._progress = _FRESH
        self._candidate: Candidate | None = None
        self._upstream: Upstream | None = None
        self._relay: Relay | None = None
        self._pace: Pace | None = None
        """Of an answer that streams."""
        self._counting = False
        self._place: Place | None = None
        """In the line of an own endpoint; it counts there."""
        self._chain: Iterator[tuple[str, bool]] | None = None
        """Models that may answer instead and were not tried; None: nobody has looked."""
        self._asked = 0
        """Number of the present attempt: a connection made for another one is not ours."""
        self._cut = False
        """Whether we closed a connection while its backend worked for us."""
        self._moved = 0
        self._queued_since_s = _NEVER
        """When it began to wait for a slot anywhere; since when it runs stands in ``_ran_at_s`` then."""
        self._budgeted = False
        self._finished = False
        self._opened = False
        """Whether the answer has begun, for the model and for its wait."""
        self._stake: Stake | None = None
        self._copy: SecondCopy | None = None
        self._copied = False
        self._sampled = 0
        """Requests at its backend when it was sent, where its first token is a sample; else 0."""
        self._retry: asyncio.TimerHandle | None = None
        self._started_s = self._planned_s = self._dispatched_s = 0.0
        self._first_byte_by_s = self._heard_s = self._paused_s = self._next_phase_s = _NEVER
