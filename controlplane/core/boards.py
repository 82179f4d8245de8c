"""What nodes tell of themselves for others: conditions and digests of cached prompts. Never stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from controlplane.core.loads import owner_of
from swarmplane.conditions import Condition, NodeCondition
from swarmplane.ids import EndpointId, NodeId
from swarmplane.prefixes import HASH_BYTES, MOST_BLOCKS, EndpointPrefixes

MOST_DIGESTS: Final = 8192
"""Endpoints whose digests are kept: 16 MB. Those told of longest ago are dropped."""
MOST_OF_A_NODE: Final = 256
"""Of them of one node, so that none drives out what others say."""
_MOST_BYTES: Final = HASH_BYTES * MOST_BLOCKS


@dataclass(frozen=True, slots=True)
class _Word:
    condition: Condition
    taken_s: float


class ConditionBoard:
    """The last word of every node."""

    def __init__(self) -> None:
        self._words: dict[NodeId, _Word] = {}

    def fold(self, node: NodeId, condition: Condition, now_s: float) -> None:
        """Take in what ``node`` says; what it says of others' endpoints is left out."""
        own = tuple(one for one in condition.endpoints if owner_of(one.endpoint) == node)
        self._words[node] = _Word(replace(condition, endpoints=own), now_s)

    def drop(self, node: NodeId) -> bool:
        """``node`` left: nothing is known of it any more. Whether anything was."""
        return self._words.pop(node, None) is not None

    @property
    def nodes(self) -> frozenset[NodeId]:
        """Those of which something is known."""
        return frozenset(self._words)

    def digest(self, nodes: Iterable[NodeId], now_s: float) -> tuple[NodeCondition, ...]:
        """The last words of ``nodes``, with their ages; a node of which nothing is known, as such."""
        return tuple(self._told(node, now_s) for node in nodes)

    def _told(self, node: NodeId, now_s: float) -> NodeCondition:
        word = self._words.get(node)
        if word is None or now_s - word.taken_s >= word.condition.valid_s:
            return NodeCondition(node, None)
        return NodeCondition(node, word.condition, max(0, round((now_s - word.taken_s) * 1000)))


class PrefixBoard:
    """The newest digest of every endpoint; bounded."""

    def __init__(self, most: int = MOST_DIGESTS, most_of_a_node: int = MOST_OF_A_NODE) -> None:
        self._digests: dict[EndpointId, EndpointPrefixes] = {}
        self._own: dict[NodeId, dict[EndpointId, None]] = {}
        self._most = most
        self._most_of_a_node = most_of_a_node

    @property
    def endpoints(self) -> frozenset[EndpointId]:
        """Those of which something is known."""
        return frozenset(self._digests)

    def fold(self, node: NodeId, told: Iterable[EndpointPrefixes]) -> frozenset[EndpointId]:
        """Take in what ``node`` says of its own endpoints. Returns those with news."""
        news = set()
        for one in told:
            if owner_of(one.endpoint) != node or self._digests.get(one.endpoint) == one:
                continue
            self._forget(one.endpoint)
            self._digests[one.endpoint] = replace(one, blocks=one.blocks[:_MOST_BYTES])
            own = self._own.setdefault(node, {})
            own[one.endpoint] = None
            news.add(one.endpoint)
            if len(own) > self._most_of_a_node:
                self._forget(next(iter(own)))
        while len(self._digests) > self._most:
            self._forget(next(iter(self._digests)))
        return frozenset(news & self._digests.keys())

    def drop(self, node: NodeId) -> None:
        """``node`` left. Others keep what they heard until it comes back: its caches may have survived."""
        for key in tuple(self._own.get(node, ())):
            self._forget(key)

    def digest(self, endpoints: Iterable[EndpointId]) -> tuple[EndpointPrefixes, ...]:
        """What is known of ``endpoints``."""
        return tuple(found for key in endpoints if (found := self._digests.get(key)) is not None)

    def _forget(self, endpoint: EndpointId) -> None:
        if self._digests.pop(endpoint, None) is not None:
            own = self._own[owner_of(endpoint)]
            del own[endpoint]
            if not own:
                del self._own[owner_of(endpoint)]
