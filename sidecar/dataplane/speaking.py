"""Answers of backends that speak another dialect than the client."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from sidecar.core.attempts import Outcome
from sidecar.dataplane import translating
from sidecar.dataplane.headers import Header
from sidecar.dataplane.loading import Loads
from sidecar.telemetry import record as records
from swarmplane.errors import Code

if TYPE_CHECKING:
    from sidecar.dataplane.exchange import Exchange
    from sidecar.dataplane.relay import Relay
    from sidecar.dataplane.translation import Translator
    from sidecar.dataplane.upstream import Upstream, Whole
    from sidecar.dialects.translate import Outgoing


class Speaks(Loads):
    """A request whose answer is put back into its own dialect."""

    __slots__ = ()

    def _begin_translated(self, upstream: Upstream | Whole, outgoing: Outgoing) -> None:
        collect, exchange = self._plane.policy.max_collected_bytes, cast("Exchange", self)
        self._relay = translating.choose(exchange, upstream, outgoing.answer, collect=collect)
        if self._relay is None:
            self.spoiled("The backend's answer is none that can be translated")
        elif self.connection.paused:
            self.client_paused()

    def _translated(self, answer: Whole, body: bytes) -> None:
        if self.outgoing is not None:
            self._begin_translated(answer, self.outgoing)
        relay = self._relay
        if relay is not None:
            relay.data(body)
        # It may have been given up by then.
        if relay is not None and self._relay is relay:
            relay.end()

    def spoiled(self, message: str) -> None:
        """The backend's answer can't be put into the client's dialect: it is as good as cut off."""
        if self._relay is not None and self._relay.committed:
            self._break(Code.UPSTREAM_FAILED, message, records.TRUNCATED)
            return
        self._cut_off()
        self._outcome(Outcome.TRUNCATED)

    @property
    def translator(self) -> Translator:
        """Who works apart."""
        return self._plane.translator

    def work_apart(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with ``work``, which asks :meth:`answered_by` before it acts."""
        self._plane.spawn(work)

    def answered_by(self, relay: Relay) -> bool:
        """Whether the client still waits for what ``relay`` makes."""
        return not self._finished and self._relay is relay

    def _answer(self, body: bytes) -> None:
        """See :class:`sidecar.dataplane.translation.Translates`."""
        # It says nothing about how fast anybody answers.
        stake, self._stake = self._stake, None
        if stake is not None:
            stake.over(self._plane.clock_s())
        self._dispatched_s = time.monotonic()
        framing = b"content-length: %d\r\n" % len(body)
        self.connection.write(self.answer_head(200, translating.JSON_LINE, framing, []) + body)
        self.relayed(close=False)

    @abstractmethod
    def answer_head(self, status: int, lines: bytes, framing: bytes, headers: list[Header]) -> bytes:
        """Status line and headers of the answer."""

    @abstractmethod
    def relayed(self, *, close: bool) -> None:
        """The answer is written whole."""

    @abstractmethod
    def _break(self, code: Code, message: str, failure: str) -> None:
        """End an answer that began."""

    @abstractmethod
    def client_paused(self) -> None:
        """The client reads more slowly than the answer comes: stop reading it."""
