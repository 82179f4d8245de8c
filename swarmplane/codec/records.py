"""Values of the store: the messages themselves, for their owners to read and change in place.

They are the one kind of message that services hold, because only a message that is parsed, changed and
serialised again keeps the fields that a newer version wrote into it (PROTOCOL section 8).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from swarmplane.codec.fallbacks import rule_from_pb, rule_to_pb
from swarmplane.codec.inventory import inventory_from_bytes
from swarmplane.codec.table import model_route_from_pb, model_route_to_pb
from swarmplane.errors import Code, SwarmError
from swarmplane.fallbacks import FallbackPolicy
from swarmplane.inventory import Inventory as NodeInventory
from swarmplane.routes import ModelRoute
from swarmplane.store.v1.store_pb2 import (
    Alias,
    ApiKey,
    Audit,
    Counter,
    Denied,
    Doubt,
    Doubts,
    Election,
    Instance,
    Inventory,
    Member,
    Model,
    Node,
    Operation,
    Person,
    Pull,
    Request,
    Route,
    SealedKey,
    Swarm,
    SwarmPolicy,
    Token,
)
from swarmplane.v1 import policy_pb2, route_pb2

__all__ = [
    "Alias",
    "ApiKey",
    "Audit",
    "Counter",
    "Denied",
    "Doubt",
    "Doubts",
    "Election",
    "Instance",
    "Inventory",
    "Member",
    "Model",
    "Node",
    "Operation",
    "Person",
    "Pull",
    "Request",
    "Route",
    "SealedKey",
    "Swarm",
    "SwarmPolicy",
    "Token",
    "fallbacks_of",
    "inventory_of",
    "parse",
    "route_of",
    "route_value",
    "set_fallbacks",
]

M = TypeVar("M", bound=Message)


def parse(kind: type[M], value: bytes) -> M:
    """The record in ``value``, with the fields that this version does not know.

    Raises:
        SwarmError: The store holds something else (INTERNAL).
    """
    try:
        return kind.FromString(value)
    except DecodeError as error:
        raise SwarmError(f"the store holds a damaged {kind.__name__}", code=Code.INTERNAL) from error


def route_value(route: ModelRoute) -> bytes:
    """``routes/<model>`` for ``route``. Its revision is the store's business and left out."""
    message = model_route_to_pb(replace(route, revision=0))
    return Route(route=message.SerializeToString(deterministic=True)).SerializeToString()


def route_of(value: bytes, revision: int) -> ModelRoute:
    """The route that stands in the store since ``revision``."""
    message = route_pb2.ModelRoute.FromString(parse(Route, value).route)
    return replace(model_route_from_pb(message), revision=revision)


def fallbacks_of(record: SwarmPolicy) -> FallbackPolicy:
    """Which models may answer for others, in a swarm."""
    rules = (rule_from_pb(policy_pb2.FallbackRule.FromString(rule)) for rule in record.fallback_rules)
    return FallbackPolicy(tuple(rules), record.substitute_loaded, tuple(record.auto_pull))


def set_fallbacks(record: SwarmPolicy, wanted: FallbackPolicy) -> None:
    """Write ``wanted`` into ``record``."""
    record.fallback_rules[:] = [
        rule_to_pb(rule).SerializeToString(deterministic=True) for rule in wanted.rules
    ]
    record.substitute_loaded = wanted.substitute_loaded
    record.auto_pull[:] = wanted.auto_pull


def inventory_of(record: Inventory) -> NodeInventory:
    """What the node said it has."""
    return inventory_from_bytes(record.inventory)
