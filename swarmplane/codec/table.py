"""Route tables: as updates on the control stream, in parts, and as bytes on disk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from types import MappingProxyType
from typing import Final

from swarmplane.codec.policies import policy_from_pb, policy_to_pb
from swarmplane.codec.traits import traits_from_pb, traits_to_pb
from swarmplane.codec.version import version_from_pb, version_to_pb
from swarmplane.codec.wire import message_field, number_field
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId
from swarmplane.policies import Policy
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteDelta, RouteTable
from swarmplane.traits import UNKNOWN_TRAITS
from swarmplane.v1 import route_pb2, sidecar_pb2

MAX_PART_BYTES: Final = 256 * 1024
"""Rows are gathered up to this; a greater row goes alone. Small parts keep both loops responsive."""

_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">4sBI")
_LENGTHS: Final = struct.Struct(">II")
_MAGIC: Final = b"SWPT"
_ROW_BYTES: Final = 8
"""Tag and length before a row in its part, at most."""
_UNBOUNDED: Final = 2**31
_ROUTE_UPDATE: Final = sidecar_pb2.ControlMessage.DESCRIPTOR.fields_by_name["route_update"].number
_FIELDS: Final = {name: one.number for name, one in sidecar_pb2.RouteUpdate.DESCRIPTOR.fields_by_name.items()}
_NONCE, _NODES, _MODELS = _FIELDS["nonce"], _FIELDS["nodes"], _FIELDS["models"]
_REMOVED_NODES, _REMOVED_MODELS = _FIELDS["removed_nodes"], _FIELDS["removed_models"]
_MORE: Final = number_field(_FIELDS["more"], 1)


def endpoint_to_pb(endpoint: Endpoint) -> route_pb2.Endpoint:
    """``endpoint`` as a message."""
    return route_pb2.Endpoint(
        id=endpoint.id,
        node_id=endpoint.node,
        backend=endpoint.backend,
        model=endpoint.model,
        ready=endpoint.ready,
        draining=endpoint.draining,
        slots=endpoint.slots,
        context_length=endpoint.context_length,
        kind=endpoint.kind,
        traits=traits_to_pb(endpoint.traits),
    )


def endpoint_from_pb(message: route_pb2.Endpoint) -> Endpoint:
    """The endpoint in ``message``."""
    return Endpoint(
        id=EndpointId(message.id),
        node=NodeId(message.node_id),
        backend=BackendName(message.backend),
        model=message.model,
        ready=message.ready,
        draining=message.draining,
        slots=message.slots,
        context_length=message.context_length,
        kind=message.kind,
        traits=traits_from_pb(message.traits) if message.HasField("traits") else UNKNOWN_TRAITS,
    )


def model_route_to_pb(route: ModelRoute) -> route_pb2.ModelRoute:
    """``route`` as a message."""
    return route_pb2.ModelRoute(
        name=route.name,
        endpoints=[endpoint_to_pb(endpoint) for endpoint in route.endpoints],
        aliases=route.aliases,
        strategy=route.strategy,
        revision=route.revision,
        fallbacks=route.fallbacks,
        context_protection=route.context,
    )


def model_route_from_pb(message: route_pb2.ModelRoute) -> ModelRoute:
    """The route in ``message``.

    Raises:
        ValueError: It has no name, or an endpoint of it has no id or no node.
    """
    if not message.name:
        raise ValueError("a route has no name")
    if not all(endpoint.id and endpoint.node_id for endpoint in message.endpoints):
        raise ValueError(f"an endpoint of {message.name!r} has no id or no node")
    return ModelRoute(
        name=ModelName(message.name),
        endpoints=tuple(endpoint_from_pb(endpoint) for endpoint in message.endpoints),
        aliases=tuple(message.aliases),
        strategy=message.strategy,
        revision=message.revision,
        fallbacks=tuple(message.fallbacks),
        context=message.context_protection,
    )


def node_entry_to_pb(entry: NodeEntry) -> sidecar_pb2.NodeEntry:
    """``entry`` as a message."""
    return sidecar_pb2.NodeEntry(
        id=entry.id,
        name=entry.name,
        peer_addresses=entry.peer_addresses,
        session=entry.session,
        cordoned=entry.cordoned,
        revision=entry.revision,
    )


def node_entry_from_pb(message: sidecar_pb2.NodeEntry) -> NodeEntry:
    """The node in ``message``.

    Raises:
        ValueError: It has no id.
    """
    if not message.id:
        raise ValueError("a node has no id")
    return NodeEntry(
        id=NodeId(message.id),
        name=message.name,
        peer_addresses=tuple(message.peer_addresses),
        session=message.session,
        cordoned=message.cordoned,
        revision=message.revision,
    )


def update_parts(
    update: RouteTable | RouteDelta, nonce: int, *, part_bytes: int = MAX_PART_BYTES
) -> Iterator[sidecar_pb2.RouteUpdate]:
    """``update`` as messages to be sent in order; all but the last have ``more``. At least one.

    A table gives a snapshot, a delta the changes. Deny list and default strategy do not travel here but in
    PolicyUpdate. Lazy: one part is built at a time.
    """
    part = _empty_part(update, nonce)
    size = part.ByteSize()
    empty = True
    for field, row in _rows(update):
        row_bytes = _ROW_BYTES + (len(row.encode()) if isinstance(row, str) else row.ByteSize())
        if not empty and size + row_bytes > part_bytes:
            part.more = True
            yield part
            part = _empty_part(update, nonce)
            size = part.ByteSize()
        getattr(part, field).append(row)
        size += row_bytes
        empty = False
    yield part


class EncodedRows:
    """Encodes updates for many streams. A row that was encoded for an earlier update is joined as it is.

    Rows are known by identity: who changes one makes a new one. Memory is that of the rows of one table.
    """

    def __init__(self) -> None:
        self._models: dict[ModelName, tuple[ModelRoute, bytes]] = {}
        self._nodes: dict[NodeId, tuple[NodeEntry, bytes]] = {}

    def parts(
        self, update: RouteTable | RouteDelta, *, part_bytes: int = MAX_PART_BYTES
    ) -> tuple[bytes, ...]:
        """``update`` for :func:`update_message`, as :func:`update_parts` makes it, without a nonce."""
        if isinstance(update, RouteTable):
            nodes, models = tuple(update.nodes.values()), tuple(update.models.values())
            self._forget(self._models.keys() - update.models.keys(), self._nodes.keys() - update.nodes.keys())
        else:
            nodes, models = update.nodes, update.models
            self._forget(update.removed_models, update.removed_nodes)
        head = _empty_part(update, 0).SerializeToString()
        parts: list[bytes] = []
        rows, size = [head], len(head)
        for row in chain(_removed(update), map(self._node, nodes), map(self._model, models)):
            if len(rows) > 1 and size + len(row) > part_bytes:
                parts.append(b"".join((*rows, _MORE)))
                rows, size = [head], len(head)
            rows.append(row)
            size += len(row)
        return (*parts, b"".join(rows))

    def _forget(self, models: Iterable[ModelName], nodes: Iterable[NodeId]) -> None:
        for model in models:
            self._models.pop(model, None)
        for node in nodes:
            self._nodes.pop(node, None)

    def _model(self, route: ModelRoute) -> bytes:
        found = self._models.get(route.name)
        if found is None or found[0] is not route:
            row = message_field(_MODELS, model_route_to_pb(route).SerializeToString())
            found = self._models[route.name] = route, row
        return found[1]

    def _node(self, entry: NodeEntry) -> bytes:
        found = self._nodes.get(entry.id)
        if found is None or found[0] is not entry:
            row = message_field(_NODES, node_entry_to_pb(entry).SerializeToString())
            found = self._nodes[entry.id] = entry, row
        return found[1]


def _removed(update: RouteTable | RouteDelta) -> Iterator[bytes]:
    if isinstance(update, RouteDelta):
        yield from (message_field(_REMOVED_MODELS, name.encode()) for name in update.removed_models)
        yield from (message_field(_REMOVED_NODES, node.encode()) for node in update.removed_nodes)


def update_message(part: bytes, nonce: int) -> bytes:
    """An encoded ControlMessage with one of :meth:`EncodedRows.parts`."""
    return message_field(_ROUTE_UPDATE, part, number_field(_NONCE, nonce))


def _empty_part(update: RouteTable | RouteDelta, nonce: int) -> sidecar_pb2.RouteUpdate:
    return sidecar_pb2.RouteUpdate(
        version=version_to_pb(update.version), nonce=nonce, snapshot=isinstance(update, RouteTable)
    )


def _rows(
    update: RouteTable | RouteDelta,
) -> Iterator[tuple[str, route_pb2.ModelRoute | sidecar_pb2.NodeEntry | str]]:
    if isinstance(update, RouteTable):
        nodes: Iterable[NodeEntry] = update.nodes.values()
        models: Iterable[ModelRoute] = update.models.values()
    else:
        nodes, models = update.nodes, update.models
        yield from (("removed_models", name) for name in update.removed_models)
        yield from (("removed_nodes", node) for node in update.removed_nodes)
    yield from (("nodes", node_entry_to_pb(entry)) for entry in nodes)
    yield from (("models", model_route_to_pb(route)) for route in models)


def table_to_bytes(table: RouteTable) -> bytes:
    """``table`` for the disk: format version, checksum, then policy and snapshot as messages."""
    policy = policy_to_pb(
        Policy(
            denied=table.denied,
            default_strategy=table.default_strategy,
            fallbacks=table.fallbacks,
            pulls=table.pulls,
            default_context=table.default_context,
            keys=table.keys,
        ),
        0,
    ).SerializeToString()
    (snapshot,) = update_parts(table, 0, part_bytes=_UNBOUNDED)
    swarm = table.swarm.encode()
    lengths = _LENGTHS.pack(len(swarm), len(policy))
    body = b"".join((lengths, swarm, policy, snapshot.SerializeToString()))
    return _HEAD.pack(_MAGIC, _FORMAT, zlib.crc32(body)) + body


def table_from_bytes(content: bytes) -> RouteTable:
    """The table in ``content``.

    Raises:
        ValueError: It is damaged, or of a format that this version does not know.
    """
    if len(content) < _HEAD.size + _LENGTHS.size:
        raise ValueError("cut short")
    magic, format_version, checksum = _HEAD.unpack_from(content)
    body = content[_HEAD.size :]
    if magic != _MAGIC or format_version != _FORMAT:
        raise ValueError("of an unknown format")
    if zlib.crc32(body) != checksum:
        raise ValueError("damaged")
    swarm_bytes, policy_bytes = _LENGTHS.unpack_from(body)
    start = _LENGTHS.size + swarm_bytes
    rest = start + policy_bytes
    policy = policy_from_pb(sidecar_pb2.PolicyUpdate.FromString(body[start:rest]))
    snapshot = sidecar_pb2.RouteUpdate.FromString(body[rest:])
    models = [model_route_from_pb(message) for message in snapshot.models]
    nodes = [node_entry_from_pb(message) for message in snapshot.nodes]
    return RouteTable(
        swarm=SwarmId(body[_LENGTHS.size : start].decode()),
        version=version_from_pb(snapshot.version),
        models=MappingProxyType({route.name: route for route in models}),
        nodes=MappingProxyType({entry.id: entry for entry in nodes}),
        denied=policy.denied,
        default_strategy=policy.default_strategy,
        fallbacks=policy.fallbacks,
        pulls=policy.pulls,
        default_context=policy.default_context,
        keys=policy.keys,
    )
