"""What one stream still has to be told. Newest wins: it holds what to tell, never what was true before."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from controlplane.services.messages import Question, Redirection, Refusal
from swarmplane.ids import EndpointId, NodeId
from swarmplane.routes import Version

MOST_QUESTIONS: Final = 16
MOST_NEWS: Final = 65_536
"""More endpoints than a swarm has: names that came and went while a stream was slow are forgotten."""
MARKED_TOGETHER: Final = 16
"""Of all streams that are told of something so many are woken in one turn of the loop. gRPC hands over one
new call in two turns: where a thousand are woken in one, whoever connects waits for all of them."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An update that was sent and neither acknowledged nor refused."""

    nonce: int
    version: Version
    sent_s: float


@dataclass(slots=True)
class PushState:
    """Table versions of one sidecar, as people see them."""

    sent: Version = field(default_factory=Version)
    acked: Version = field(default_factory=Version)
    nacked: Version = field(default_factory=Version)
    nack_reason: str = ""


class Outbox:
    """Flags and a set that is bounded by the number of endpoints; costs nothing while a stream is slow.

    Args:
        has: The table version that the sidecar uses.
    """

    def __init__(self, has: Version) -> None:
        self.has = has
        self.state = PushState(acked=has)
        self.table = True
        self.greeted = False
        """Whether a first update went out: the sidecar knows then whether its table is current."""
        self.policy = True
        self.suspects = False
        self.drain = False
        self.instances = True
        self.loads: set[EndpointId] = set()
        self.conditions: set[NodeId] = set()
        self.prefixes: set[EndpointId] = set()
        self.questions: deque[Question] = deque(maxlen=MOST_QUESTIONS)
        self.last_word: Refusal | Redirection | None = None
        self.closed = False
        self.table_unanswered: Unanswered | None = None
        self.policy_unanswered: Unanswered | None = None
        self.nonce = 0
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something here changed."""
        self._wake.set()

    async def wait(self) -> None:
        """Wait until something changed since the last wait."""
        await self._wake.wait()
        self._wake.clear()

    def mark(
        self,
        *,
        table: bool = False,
        policy: bool = False,
        suspects: bool = False,
        drain: bool = False,
        instances: bool = False,
    ) -> None:
        """These are to be told anew."""
        self.table |= table
        self.policy |= policy
        self.suspects |= suspects
        self.drain |= drain
        self.instances |= instances
        self.wake()

    def mark_loads(self, endpoints: Iterable[EndpointId]) -> None:
        """News of these endpoints."""
        if len(self.loads) > MOST_NEWS:
            self.loads.clear()
        self.loads.update(endpoints)
        self.wake()

    def mark_shared(self, *, conditions: Iterable[NodeId] = (), prefixes: Iterable[EndpointId] = ()) -> None:
        """News of how these nodes are, and of what these endpoints have cached."""
        if len(self.prefixes) > MOST_NEWS:
            self.prefixes.clear()
        self.conditions.update(conditions)
        self.prefixes.update(prefixes)
        self.wake()

    def ask(self, question: Question) -> None:
        """Ask the sidecar; of too many questions the oldest is dropped."""
        self.questions.append(question)
        self.wake()

    def end(self, word: Refusal | Redirection | None = None) -> None:
        """Say ``word``, if any, and end the stream."""
        self.last_word = self.last_word or word
        self.closed = True
        self.wake()

    def acked(self, version: Version, nonce: int) -> None:
        """The sidecar uses ``version`` now. Answers to what is no longer awaited are ignored."""
        if self.table_unanswered is not None and self.table_unanswered.nonce == nonce:
            self.table_unanswered = None
            self.has = version
            self.state.acked = version
            self._took(version)
            self.wake()
        elif self.policy_unanswered is not None and self.policy_unanswered.nonce == nonce:
            self._took(self.policy_unanswered.version)
            self.policy_unanswered = None
            self.wake()

    def nacked(self, version: Version, nonce: int, reason: str) -> bool:
        """The sidecar keeps ``version``; whether it refused a table or a policy that was awaited.

        What was refused is not sent again; the next change goes out on the basis of what it keeps.
        """
        if self.table_unanswered is not None and self.table_unanswered.nonce == nonce:
            self.state.nacked, self.state.nack_reason = self.table_unanswered.version, reason
            self.table_unanswered = None
            self.has = version
            self.wake()
            return True
        if self.policy_unanswered is not None and self.policy_unanswered.nonce == nonce:
            self.state.nacked, self.state.nack_reason = self.policy_unanswered.version, reason
            self.policy_unanswered = None
            self.wake()
            return True
        return False

    def _took(self, version: Version) -> None:
        """A refusal stands until something as new is taken."""
        if version >= self.state.nacked:
            self.state.nacked, self.state.nack_reason = Version(), ""
