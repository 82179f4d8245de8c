"""What is told seldom: how this host is, and what its endpoints have cached."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

from sidecar.core.prefix import HASH_VERSION, pack_digest
from sidecar.routing.current import CurrentRoutes
from swarmplane.codec.conditions import condition_to_pb
from swarmplane.codec.prefixes import prefixes_to_pb
from swarmplane.conditions import Condition
from swarmplane.ids import EndpointId
from swarmplane.prefixes import EndpointPrefixes
from swarmplane.v1 import sidecar_pb2 as pb

CONDITION_S: Final = 2.0
PREFIXES_S: Final = 5.0
REFRESH_SHARE: Final = 1 / 3
"""Of a condition's time: then it is said again."""
MOST_DIGESTS: Final = 32
"""In one message, 70 KB; the others follow in the next round."""


class SlowNews:
    """Decides what of it to send now; one per session. Never waits."""

    def __init__(
        self, routes: CurrentRoutes, condition: Callable[[], Condition | None], now_s: float
    ) -> None:
        self._routes = routes
        self._condition = condition
        self._told: Condition | None = None
        self._condition_due_s = now_s
        self._refresh_s = now_s
        self._prefixes_due_s = now_s
        self._digests: dict[EndpointId, bytes] = {}

    def next(self, now_s: float) -> pb.SidecarMessage | None:
        """What to send; None: nothing now."""
        if self._routes.balancer.agreed:
            self._routes.balancer.read_prompts()
        return self._condition_message(now_s) or self._prefix_message(now_s)

    def _condition_message(self, now_s: float) -> pb.SidecarMessage | None:
        if now_s < self._condition_due_s:
            return None
        condition = self._condition()
        if condition is None or (condition == self._told and now_s < self._refresh_s):
            return None
        self._told = condition
        self._condition_due_s = now_s + CONDITION_S
        self._refresh_s = now_s + condition.valid_s * REFRESH_SHARE
        return pb.SidecarMessage(condition=condition_to_pb(condition))

    def _prefix_message(self, now_s: float) -> pb.SidecarMessage | None:
        if now_s < self._prefixes_due_s or not self._routes.balancer.agreed:
            return None
        self._prefixes_due_s = now_s + PREFIXES_S
        own, prefixes = self._routes.view.own, self._routes.balancer.prefixes
        for gone in [key for key in self._digests if key not in own]:
            del self._digests[gone]
        told: list[EndpointPrefixes] = []
        # Those told longest ago first, so that none is left out for ever.
        turns = {key: turn for turn, key in enumerate(self._digests, 1)}
        changed = (
            EndpointPrefixes(key, one.canonical, blocks, HASH_VERSION)
            for key, one in sorted(own.items(), key=lambda item: turns.get(item[0], 0))
            if (blocks := pack_digest(prefixes.digest(one.canonical, key))) != self._digests.get(key, b"")
        )
        for one in islice(changed, MOST_DIGESTS):
            self._digests.pop(one.endpoint, None)
            self._digests[one.endpoint] = one.blocks
            told.append(one)
        return pb.SidecarMessage(prefixes=pb.Prefixes(endpoints=map(prefixes_to_pb, told))) if told else None
