"""Updates that come in parts, put together and applied to a table. Nothing here waits for the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeVar

from swarmplane.codec.policies import policy_from_pb
from swarmplane.codec.table import model_route_from_pb, node_entry_from_pb
from swarmplane.codec.version import version_from_pb
from swarmplane.ids import ModelName, NodeId
from swarmplane.routes import ModelRoute, NodeEntry, RouteDelta, RouteTable, Version, apply_delta
from swarmplane.v1 import sidecar_pb2 as pb

_SLICE: Final = 128
"""Rows decoded between two looks at the loop; about 1 ms."""

Message = TypeVar("Message")
Row = TypeVar("Row")


@dataclass(slots=True)
class Assembly:
    """The parts of one update that came so far."""

    nonce: int = 0
    models: list[ModelRoute] = field(default_factory=list)
    removed_models: list[ModelName] = field(default_factory=list)
    nodes: list[NodeEntry] = field(default_factory=list)
    removed_nodes: list[NodeId] = field(default_factory=list)

    async def add(self, part: pb.RouteUpdate) -> None:
        """Decode ``part``, letting others run every millisecond.

        Raises:
            ValueError: A row makes no sense.
        """
        await _decode(part.models, model_route_from_pb, self.models.append)
        await _decode(part.nodes, node_entry_from_pb, self.nodes.append)
        self.removed_models.extend(map(ModelName, part.removed_models))
        self.removed_nodes.extend(map(NodeId, part.removed_nodes))

    def applied(self, table: RouteTable, last: pb.RouteUpdate) -> RouteTable:
        """``table`` after the whole update, whose last part is ``last``.

        Raises:
            ValueError: It is older than ``table``, or a difference on top of another generation.
        """
        version = version_from_pb(last.version)
        _check_newer(table.version, version)
        if last.snapshot:
            return replace(
                table,
                version=version,
                models=MappingProxyType({route.name: route for route in self.models}),
                nodes=MappingProxyType({entry.id: entry for entry in self.nodes}),
            )
        delta = RouteDelta(
            version,
            tuple(self.models),
            tuple(self.removed_models),
            tuple(self.nodes),
            tuple(self.removed_nodes),
        )
        return apply_delta(table, delta)


def _check_newer(have: Version, offered: Version) -> None:
    if offered.generation == have.generation and offered < have:
        raise ValueError(f"version {offered} is older than {have}, which is in use")


async def _decode(
    messages: Iterable[Message], decode: Callable[[Message], Row], keep: Callable[[Row], None]
) -> None:
    for number, message in enumerate(messages, 1):
        keep(decode(message))
        if not number % _SLICE:
            await asyncio.sleep(0)


def with_policy(table: RouteTable, update: pb.PolicyUpdate) -> RouteTable:
    """``table`` under the policy in ``update``; its version stays, which is the routes'."""
    policy = policy_from_pb(update)
    return replace(
        table,
        denied=policy.denied,
        default_strategy=policy.default_strategy or table.default_strategy,
        fallbacks=policy.fallbacks,
        pulls=policy.pulls,
        default_context=policy.default_context,
        keys=policy.keys if policy.keys != table.keys else table.keys,
        open=policy.open,
    )
