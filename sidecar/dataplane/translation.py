"""Requests that are put into the dialect of a backend of this host before they are sent (PROTOCOL section 4).

Small ones are translated where they stand. Larger ones are in a thread, one at a time: the decoder holds the
interpreter's lock, so that several of them would take from the loop what one of them leaves it.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from sidecar.core.capability import BY_PATH, THINKING
from sidecar.dataplane.attempting import Attempts
from sidecar.dataplane.splice import splice
from sidecar.dialects.translate import COUNT_TOKENS, Outgoing, count_tokens, translate, translates
from swarmplane.errors import InvalidRequestError, SwarmError
from swarmplane.providers import use_of

if TYPE_CHECKING:
    from sidecar.core.candidate import Candidate
    from sidecar.dataplane.plan import Plan
    from sidecar.dataplane.request import Request
    from sidecar.dataplane.server import DataPlane

INLINE_BYTES: Final = 512 * 1024
"""Bodies up to this are translated in less than 2 ms: measured, at most 3.6 ms for each MB."""
_NONE: Final = frozenset[str]()
_AT_PROVIDERS: Final = frozenset({*BY_PATH, COUNT_TOKENS, b"/v1/rerank", b"/v1/moderations"})
"""What clients may ask of a provider with its owner's key: other paths make keys and jobs there."""
T = TypeVar("T")


class Translator:
    """Decides what is translated, and does it."""

    __slots__ = ("_apart", "_plane")

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._apart = asyncio.Lock()

    def needed(self, request: Request, candidate: Candidate) -> bool:
        """Whether a backend of ours does not take ``request`` as it is; asked for every attempt."""
        if not candidate.local:
            return False
        head, target = request.head, self._plane.backends.targets.get(candidate.endpoint.backend)
        if target is None or target is head.understood:
            return False
        barred = head.path not in _AT_PROVIDERS and bool(use_of(target.kind))
        if barred or translates(head.path, target.dialects):
            return True
        head.understood = target
        return False

    def put(self, request: Request, plan: Plan, candidate: Candidate) -> Outgoing | bytes:
        """``request`` as the backend of ``candidate`` wants it, or its answer where that needs no backend.

        Raises:
            InvalidRequestError: Something in it is wrong, or that backend can't do it.
        """
        plane, body = self._plane, request.body
        if plan.content.removals:
            body = splice(body, [(start, end, b"") for start, end in plan.content.removals])
        if request.head.path == COUNT_TOKENS:
            return count_tokens(bytes(body))
        target = plane.backends.targets.get(candidate.endpoint.backend)
        can = candidate.endpoint.traits.capabilities
        return translate(
            request.head.path,
            bytes(body),
            spoken=target.dialects if target is not None else _NONE,
            model=candidate.endpoint.model,
            asked=plan.asked,
            answer_id=plane.new_request_id().decode(),
            now_s=int(time.time()),
            clock_ns=time.monotonic_ns,
            thinks=not can or THINKING in can,
        )

    async def apart(self, work: Callable[..., T], *values: object) -> T:
        """``work`` of a large body, in a thread. It waits for others of its kind."""
        async with self._apart:
            return await asyncio.to_thread(work, *values)


class Translates(Attempts):
    """A request that is put into another dialect where its backend needs that."""

    __slots__ = ()

    def _is_translated(self, candidate: Candidate, *, fresh: bool) -> bool:
        """See :class:`Attempts`."""
        translator = self._plane.translator
        if not translator.needed(self.request, candidate):
            return False
        if len(self.request.body) > INLINE_BYTES:
            self._asked += 1
            self._plane.spawn(self._translate_apart(candidate, self._asked, fresh=fresh))
        else:
            try:
                outgoing = translator.put(self.request, self._plan, candidate)
            except SwarmError as error:
                self._unfit(error)
            else:
                self._go(outgoing, candidate, fresh=fresh)
        return True

    async def _translate_apart(self, candidate: Candidate, asked: int, *, fresh: bool) -> None:
        try:
            outgoing = await self._plane.translator.apart(
                self._plane.translator.put, self.request, self._plan, candidate
            )
        except SwarmError as error:
            if not self._finished and self._asked == asked:
                self._unfit(error)
            return
        if not self._finished and self._asked == asked:
            self._go(outgoing, candidate, fresh=fresh)

    def _go(self, outgoing: Outgoing | bytes, candidate: Candidate, *, fresh: bool) -> None:
        if isinstance(outgoing, bytes):
            self._answer(outgoing)
        else:
            self.outgoing = outgoing
            self._attempt(candidate, fresh=fresh, translated=True)

    @abstractmethod
    def _answer(self, body: bytes) -> None:
        """The answer is ``body``, without any backend."""

    def _unfit(self, error: SwarmError) -> None:
        """This backend can't do what the request asks for: another one may."""
        self._end_attempt()
        if self._plan.left and isinstance(error, InvalidRequestError):
            self._plane.counters.moves += 1
            self.noted.moves += 1
            self._next()
        else:
            self._refuse(error)
