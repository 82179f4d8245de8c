"""Conditions of nodes on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Final

from swarmplane.codec.load import MOST_ID_CHARACTERS
from swarmplane.conditions import Condition, EndpointCondition, NodeCondition
from swarmplane.ids import EndpointId, NodeId
from swarmplane.v1 import sidecar_pb2 as pb

MOST_ENDPOINTS: Final = 1024
_UINT32: Final = 2**32 - 1
_MOST_WARMTH: Final = 16
_LONGEST_S: Final = 86_400.0


def condition_to_pb(condition: Condition) -> pb.Condition:
    """``condition`` as a message."""
    message = pb.Condition(
        free_bytes=condition.free_bytes,
        memory_bytes=condition.memory_bytes,
        pressure_permille=_permille(condition.pressure),
        endpoints=map(_endpoint_to_pb, condition.endpoints[:MOST_ENDPOINTS]),
        valid_s=condition.valid_s,
        disk_free_bytes=condition.disk_free_bytes,
        battery_percent=condition.battery_percent,
    )
    if condition.owner_active is not None:
        message.owner_active = condition.owner_active
    if condition.overheated is not None:
        message.overheated = condition.overheated
    if condition.on_battery is not None:
        message.on_battery = condition.on_battery
    return message


def _endpoint_to_pb(one: EndpointCondition) -> pb.EndpointCondition:
    return pb.EndpointCondition(
        endpoint_id=one.endpoint,
        warmth=one.warmth,
        load_left_s=one.load_left_s,
        size_bytes=one.size_bytes,
        tokens_per_s=one.tokens_per_s,
        kv_used_permille=_permille(one.kv_used),
        resident_context=one.resident_context,
        expires_at_s=one.expires_at_s,
        vram_bytes=one.vram_bytes,
    )


def condition_from_pb(message: pb.Condition) -> Condition:
    """The condition in ``message``; figures that make no sense are unknown."""
    return Condition(
        free_bytes=message.free_bytes if message.HasField("free_bytes") else None,
        memory_bytes=message.memory_bytes if message.HasField("memory_bytes") else None,
        pressure=_share(message.pressure_permille) if message.HasField("pressure_permille") else None,
        owner_active=message.owner_active if message.HasField("owner_active") else None,
        overheated=message.overheated if message.HasField("overheated") else None,
        disk_free_bytes=message.disk_free_bytes if message.HasField("disk_free_bytes") else None,
        battery_percent=min(100, message.battery_percent) if message.HasField("battery_percent") else None,
        on_battery=message.on_battery if message.HasField("on_battery") else None,
        endpoints=tuple(
            EndpointCondition(
                EndpointId(one.endpoint_id),
                one.warmth[:_MOST_WARMTH],
                _seconds(one.load_left_s),
                one.size_bytes,
                _positive(one.tokens_per_s),
                _share(one.kv_used_permille) if one.HasField("kv_used_permille") else None,
                one.resident_context,
                one.expires_at_s,
                one.vram_bytes,
            )
            for one in message.endpoints[:MOST_ENDPOINTS]
            if 0 < len(one.endpoint_id) <= MOST_ID_CHARACTERS
        ),
        valid_s=_seconds(message.valid_s),
    )


def node_condition_to_pb(told: NodeCondition) -> pb.NodeCondition:
    """``told`` as a message."""
    return pb.NodeCondition(
        node_id=told.node,
        condition=condition_to_pb(told.condition) if told.condition is not None else None,
        age_ms=min(told.age_ms, _UINT32),
    )


def node_conditions_from_pb(messages: Iterable[pb.NodeCondition]) -> tuple[NodeCondition, ...]:
    """The nodes in ``messages``; those without an id are left out."""
    return tuple(
        NodeCondition(
            NodeId(message.node_id),
            condition_from_pb(message.condition) if message.HasField("condition") else None,
            message.age_ms,
        )
        for message in messages
        if message.node_id
    )


def _permille(share: float | None) -> int | None:
    return None if share is None else round(min(max(share, 0.0), 1.0) * 1000)


def _share(permille: int) -> float:
    return min(permille, 1000) / 1000


def _positive(value: float) -> float:
    return value if isfinite(value) and value > 0.0 else 0.0


def _seconds(value: float) -> float:
    return min(_positive(value), _LONGEST_S)
