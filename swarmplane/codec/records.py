"""Values of the store. They are messages, changed in place, so that unknown fields survive our writes."""

from __future__ import annotations

from swarmplane.store.v1.store_pb2 import (
    Audit,
    Counter,
    Denied,
    Instance,
    Inventory,
    Member,
    Node,
    Operation,
    Person,
    Request,
    Route,
    SealedKey,
    Swarm,
    SwarmPolicy,
    Token,
)

__all__ = [
    "Audit",
    "Counter",
    "Denied",
    "Instance",
    "Inventory",
    "Member",
    "Node",
    "Operation",
    "Person",
    "Request",
    "Route",
    "SealedKey",
    "Swarm",
    "SwarmPolicy",
    "Token",
]
