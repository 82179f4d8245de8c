"""The requests of one class that wait: by key, each key's oldest first, fair among keys."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from math import ceil, inf

from sidecar.core.fair_share import FairShare
from sidecar.core.queue_values import Asking, ClassPolicy


class Ticket:
    """A request in the queue or on a slot."""

    __slots__ = ("asking", "number", "preempted", "waiting")

    def __init__(self, number: int, asking: Asking) -> None:
        self.number = number
        self.asking = asking
        self.waiting = True
        self.preempted = False


class Lane:
    """One class. Mutable. ``next`` and ``ahead`` are O(keys that wait), the rest is O(1)."""

    __slots__ = ("_by_key", "length", "policy", "shares", "size_bytes")

    def __init__(self, policy: ClassPolicy) -> None:
        self.policy = policy
        self.shares = FairShare()
        self.length = 0
        self.size_bytes = 0
        self._by_key: dict[str, deque[Ticket]] = {}

    @property
    def keys(self) -> Iterator[str]:
        """Keys with something that waits."""
        return iter(self._by_key)

    def put(self, ticket: Ticket) -> None:
        """Let it wait, behind those of its key that have waited longer."""
        key = ticket.asking.key
        line = self._by_key.get(key)
        if line is None:
            line = self._by_key[key] = deque()
        self.length += 1
        self.size_bytes += ticket.asking.size_bytes
        ticket.waiting = True
        place = len(line)
        # Only moved and preempted requests have waited already, so that this rarely takes a step.
        while place and line[place - 1].asking.since_s > ticket.asking.since_s:
            place -= 1
        line.insert(place, ticket)

    def take(self, ticket: Ticket) -> None:
        """It does not wait any more."""
        key = ticket.asking.key
        line = self._by_key[key]
        if line[0] is ticket:
            line.popleft()
        else:
            line.remove(ticket)
        if not line:
            del self._by_key[key]
        self.length -= 1
        self.size_bytes -= ticket.asking.size_bytes
        ticket.waiting = False

    def next(self, fits: Callable[[Ticket], bool]) -> Ticket | None:
        """Of the keys' oldest tickets that fit somewhere, the one whose key used least, then the oldest."""
        best: Ticket | None = None
        best_rank, least_s = (inf, inf, 0), inf
        used_s = self.shares.used_s
        for key, line in self._by_key.items():
            head, used = line[0], used_s(key)
            least_s = min(least_s, used)
            if used <= best_rank[0]:
                rank = (used, head.asking.since_s, head.number)
                if rank < best_rank and fits(head):
                    best, best_rank = head, rank
        self.shares.advance(least_s)
        return best

    def overdue_s(self, now_s: float) -> float:
        """By how much its oldest ticket has waited longer than the starvation bound; below 0: not yet."""
        oldest_s = min((line[0].asking.since_s for line in self._by_key.values()), default=now_s)
        return now_s - oldest_s - self.policy.starve_s

    def ahead(self, ticket: Ticket, service_s: float) -> int:
        """How many of this lane are served before ``ticket`` if each uses ``service_s`` and none comes."""
        own = self._by_key[ticket.asking.key]
        place = own.index(ticket)
        start_s = self.shares.used_s(ticket.asking.key) + place * service_s
        total = place
        for key, line in self._by_key.items():
            if line is own:
                continue
            lead = (start_s - self.shares.used_s(key)) / service_s
            before = min(max(ceil(lead), 0), len(line))
            # At equal use the older one goes first.
            if before == lead and before < len(line) and _older(line[before], ticket):
                before += 1
            total += before
        return total

    def to_evict(self, newcomer: Asking) -> list[Ticket] | None:
        """Whom to send away for ``newcomer`` to fit: none, some, or None where it is the one that does not.

        The newest tickets of the key with the most, as long as that key keeps at least as many as the
        newcomer's would have: a flood of one key fills the lane, and still refuses nobody else.
        """
        length, size_bytes = self.length + 1, self.size_bytes + newcomer.size_bytes
        out: list[Ticket] = []
        counts: dict[str, int] | None = None
        while length > self.policy.length or size_bytes > self.policy.size_bytes:
            if counts is None:
                counts = {key: len(line) for key, line in self._by_key.items()}
            longest = max(counts, key=counts.__getitem__, default=newcomer.key)
            if counts.get(longest, 0) <= counts.get(newcomer.key, 0) + 1:
                return None
            counts[longest] -= 1
            victim = self._by_key[longest][counts[longest]]
            out.append(victim)
            length -= 1
            size_bytes -= victim.asking.size_bytes
        return out


def _older(one: Ticket, other: Ticket) -> bool:
    return (one.asking.since_s, one.number) < (other.asking.since_s, other.number)
