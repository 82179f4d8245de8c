"""What goes out comes back, and what this version does not know is kept."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmplane.codec import records
from swarmplane.codec.inventory import inventory_from_bytes, inventory_from_pb, inventory_to_pb
from swarmplane.codec.load import load_entries_from_pb, load_entry_to_pb
from swarmplane.codec.operations import operation_of, operation_value
from swarmplane.codec.policies import policy_from_pb, policy_to_pb
from swarmplane.codec.table import (
    EncodedRows,
    model_route_from_pb,
    model_route_to_pb,
    node_entry_from_pb,
    node_entry_to_pb,
    table_from_bytes,
    table_to_bytes,
    update_message,
    update_parts,
)
from swarmplane.codec.version import version_from_pb, version_to_pb
from swarmplane.errors import SwarmError
from swarmplane.fallbacks import FallbackPolicy, FallbackRule
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SubjectId, SwarmId
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.load import LoadEntry
from swarmplane.operation import Operation
from swarmplane.policies import Policy
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteDelta, RouteTable, Version
from swarmplane.traits import Traits
from swarmplane.v1 import route_pb2, sidecar_pb2

printable = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
names = st.text(printable, min_size=1, max_size=12)
texts = st.text(printable, max_size=8)
counts = st.integers(0, 2**32 - 1)
revisions = st.integers(0, 2**63)
versions = st.builds(Version, revisions, revisions)
tuples_of_names = st.lists(names, max_size=2).map(tuple)
traits = st.builds(
    Traits,
    digest=texts,
    family=texts,
    format=texts,
    parameter_size=texts,
    quantization=texts,
    size_bytes=revisions,
    capabilities=tuples_of_names,
    trained_context=counts,
    modified_s=revisions,
)
endpoints = st.builds(
    Endpoint,
    id=names.map(EndpointId),
    node=names.map(NodeId),
    backend=texts.map(BackendName),
    model=texts,
    ready=st.booleans(),
    draining=st.booleans(),
    slots=counts,
    context_length=counts,
    kind=texts,
    traits=traits,
)
routes = st.builds(
    ModelRoute,
    name=names.map(ModelName),
    endpoints=st.lists(endpoints, max_size=2).map(tuple),
    aliases=tuples_of_names,
    strategy=texts,
    revision=revisions,
    fallbacks=tuples_of_names,
    context=texts,
)
rules = st.builds(
    FallbackRule,
    models=tuples_of_names,
    match=texts,
    category=texts,
    from_bytes=revisions,
    below_bytes=revisions,
)
fallback_policies = st.builds(
    FallbackPolicy,
    rules=st.lists(rules, max_size=2).map(tuple),
    substitute_loaded=st.booleans(),
    auto_pull=tuples_of_names,
)
nodes = st.builds(
    NodeEntry,
    id=names.map(NodeId),
    name=texts,
    peer_addresses=tuples_of_names,
    session=revisions,
    cordoned=st.booleans(),
    revision=revisions,
)
subjects = st.frozensets(names.map(SubjectId), max_size=4)
tables = st.builds(
    lambda swarm, version, models, entries, denied, strategy, fallbacks, context: RouteTable(
        SwarmId(swarm),
        version,
        MappingProxyType({m.name: m for m in models}),
        MappingProxyType({n.id: n for n in entries}),
        denied,
        strategy,
        fallbacks,
        default_context=context,
    ),
    texts,
    versions,
    st.lists(routes, max_size=3),
    st.lists(nodes, max_size=3),
    subjects,
    texts,
    fallback_policies,
    texts,
)
models_of_backends = st.builds(
    BackendModel,
    name=names,
    canonical=st.none() | names.map(ModelName),
    state=st.sampled_from(ModelState),
    context_length=counts,
    size_bytes=revisions,
    capabilities=tuples_of_names,
    digest=texts,
    quantization=texts,
    family=texts,
    format=texts,
    parameter_size=texts,
    trained_context=counts,
    modified_s=revisions,
)
inventories = st.builds(
    Inventory,
    backends=st.lists(
        st.builds(
            Backend,
            name=names.map(BackendName),
            kind=texts,
            healthy=st.booleans(),
            reason=texts,
            models=st.lists(models_of_backends, max_size=3).map(tuple),
            slots=counts,
        ),
        max_size=3,
    ).map(tuple),
    memory_bytes=revisions,
    cpus=counts,
)


@given(versions, routes, nodes)
def test_rows_come_back(version: Version, route: ModelRoute, entry: NodeEntry) -> None:
    assert version_from_pb(version_to_pb(version)) == version
    assert model_route_from_pb(model_route_to_pb(route)) == route
    assert node_entry_from_pb(node_entry_to_pb(entry)) == entry
    assert records.route_of(records.route_value(route), route.revision) == route


@given(tables)
def test_a_table_comes_back_from_disk(table: RouteTable) -> None:
    assert table_from_bytes(table_to_bytes(table)) == table


@given(tables, st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_table_is_refused(table: RouteTable, position: int, value: int) -> None:
    content = bytearray(table_to_bytes(table))
    position %= len(content)
    if content[position] == value:
        value ^= 1
    content[position] = value
    with pytest.raises(ValueError, match=r"damaged|unknown format"):
        table_from_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"damaged|cut short"):
        table_from_bytes(bytes(table_to_bytes(table)[:position]))


@given(tables, st.integers(1, 400), revisions)
def test_a_snapshot_in_parts_is_whole(table: RouteTable, part_bytes: int, nonce: int) -> None:
    parts = list(update_parts(table, nonce, part_bytes=part_bytes))
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert all(part.snapshot and part.nonce == nonce for part in parts)
    assert all(version_from_pb(part.version) == table.version for part in parts)
    assert [model_route_from_pb(m) for p in parts for m in p.models] == list(table.models.values())
    assert [node_entry_from_pb(n) for p in parts for n in p.nodes] == list(table.nodes.values())
    for part in parts:
        rows = len(part.models) + len(part.nodes)
        assert part.ByteSize() <= part_bytes or rows <= 1


deltas = st.builds(
    RouteDelta,
    versions,
    st.lists(routes, max_size=4).map(tuple),
    tuples_of_names,
    st.lists(nodes, max_size=4).map(tuple),
    tuples_of_names,
)


@given(
    versions,
    st.lists(routes, max_size=4).map(tuple),
    st.lists(nodes, max_size=4).map(tuple),
    tuples_of_names,
    tuples_of_names,
    st.integers(1, 200),
)
def test_a_delta_in_parts_is_whole(
    version: Version,
    models: tuple[ModelRoute, ...],
    entries: tuple[NodeEntry, ...],
    no_models: tuple[ModelName, ...],
    no_nodes: tuple[NodeId, ...],
    part_bytes: int,
) -> None:
    delta = RouteDelta(version, models, no_models, entries, no_nodes)
    parts = list(update_parts(delta, 7, part_bytes=part_bytes))
    assert not any(part.snapshot for part in parts)
    assert not parts[-1].more
    assert tuple(model_route_from_pb(m) for p in parts for m in p.models) == models
    assert tuple(node_entry_from_pb(n) for p in parts for n in p.nodes) == entries
    assert tuple(name for p in parts for name in p.removed_models) == no_models
    assert tuple(name for p in parts for name in p.removed_nodes) == no_nodes


@given(st.lists(st.one_of(tables, deltas), min_size=1, max_size=4), st.integers(1, 400), revisions)
def test_encoded_rows_are_the_rows(
    updates: list[RouteTable | RouteDelta], part_bytes: int, nonce: int
) -> None:
    """Mutants tried: a row found by its name alone, no `more`, a head only before the first part."""
    rows = EncodedRows()
    for update in updates:
        encoded = rows.parts(update, part_bytes=part_bytes)
        messages = [sidecar_pb2.ControlMessage.FromString(update_message(part, nonce)) for part in encoded]
        parts = [message.route_update for message in messages]
        assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
        assert all(part.snapshot == isinstance(update, RouteTable) and part.nonce == nonce for part in parts)
        (whole,) = update_parts(update, nonce, part_bytes=2**31)
        for field in ("models", "nodes", "removed_models", "removed_nodes"):
            assert [row for part in parts for row in getattr(part, field)] == list(getattr(whole, field))
        assert all(version_from_pb(part.version) == update.version for part in parts)
        assert all(len(p.models) + len(p.nodes) <= 1 or p.ByteSize() <= part_bytes + 20 for p in parts)


def test_parts_stay_below_a_mebibyte() -> None:
    models = {
        ModelName(f"m{i}"): ModelRoute(
            ModelName(f"m{i}"),
            tuple(
                Endpoint(EndpointId(f"n{j}/b/m{i}"), NodeId(f"n{j}"), BackendName("b"), f"m{i}")
                for j in range(20)
            ),
        )
        for i in range(2_000)
    }
    parts = list(update_parts(RouteTable(SwarmId("s"), Version(1, 1), models), 1))
    assert len(parts) > 1
    assert max(part.ByteSize() for part in parts) <= 1024 * 1024
    assert sum(len(part.models) for part in parts) == 2_000


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(model_route_to_pb(ModelRoute(ModelName(""))), id="no-name"),
        pytest.param(
            model_route_to_pb(
                ModelRoute(ModelName("m"), (Endpoint(EndpointId(""), NodeId("n"), BackendName("b"), "m"),))
            ),
            id="no-endpoint-id",
        ),
        pytest.param(
            model_route_to_pb(
                ModelRoute(ModelName("m"), (Endpoint(EndpointId("e"), NodeId(""), BackendName("b"), "m"),))
            ),
            id="no-node",
        ),
    ],
)
def test_a_route_without_names_is_refused(message: route_pb2.ModelRoute) -> None:
    with pytest.raises(ValueError, match="has no"):
        model_route_from_pb(message)


def test_a_node_without_id_is_refused() -> None:
    with pytest.raises(ValueError, match="no id"):
        node_entry_from_pb(sidecar_pb2.NodeEntry(name="x"))


@given(inventories)
def test_an_inventory_comes_back(inventory: Inventory) -> None:
    message = inventory_to_pb(inventory)
    assert inventory_from_pb(message) == inventory
    assert inventory_from_bytes(message.SerializeToString()) == inventory


def test_an_unknown_model_state_is_not_ready() -> None:
    message = sidecar_pb2.Inventory(
        backends=[
            sidecar_pb2.Backend(name="b", models=[sidecar_pb2.BackendModel(name="m", state="dreaming")])
        ]
    )
    assert inventory_from_pb(message).backends[0].models[0].state is ModelState.FAILED


@given(
    st.builds(
        LoadEntry, names.map(EndpointId), st.dictionaries(names, counts, max_size=3), counts, counts, counts
    )
)
def test_load_comes_back(entry: LoadEntry) -> None:
    assert load_entries_from_pb([load_entry_to_pb(entry)]) == (entry,)


def test_load_without_an_endpoint_is_left_out_and_figures_are_cut_to_32_bits() -> None:
    assert load_entries_from_pb([sidecar_pb2.EndpointLoad(queued=3)]) == ()
    cut = load_entry_to_pb(LoadEntry(EndpointId("e"), {"n": 2**40}, 2**40, 2**40, 2**40))
    assert (cut.in_flight_by_origin["n"], cut.queued, cut.slots, cut.age_ms) == (2**32 - 1,) * 4


@given(st.builds(Policy, versions, subjects, texts))
def test_a_policy_comes_back(policy: Policy) -> None:
    assert policy_from_pb(policy_to_pb(policy, 3)) == policy
    assert policy_to_pb(policy, 3).nonce == 3


# Field 15,000, varint 1: as a newer version would write it.
_UNKNOWN = bytes([0xC0, 0xA9, 0x07, 0x01])


def test_fields_of_newer_versions_survive_our_writes() -> None:
    record = records.parse(records.Node, records.Node(id="n", name="a").SerializeToString() + _UNKNOWN)
    record.cordoned = True
    assert record.SerializeToString().endswith(_UNKNOWN)

    newer = (
        records.Operation(operation=sidecar_pb2.Ack().SerializeToString() + _UNKNOWN).SerializeToString()
        + _UNKNOWN
    )
    operation = Operation("o", "drain", "n", "done", 1.0, 0.5, "code", "sentence")
    value = operation_value(operation, newer)
    assert value.count(_UNKNOWN) == 2
    assert operation_of(value, 9) == replace(operation, revision=9)


def test_an_inventory_is_kept_as_sent() -> None:
    sent = inventory_to_pb(Inventory(cpus=3)).SerializeToString() + _UNKNOWN
    record = records.parse(
        records.Inventory, records.Inventory(session=4, inventory=sent).SerializeToString()
    )
    assert record.inventory == sent
    assert records.inventory_of(record) == Inventory(cpus=3)


def test_a_damaged_record_is_an_error_of_ours() -> None:
    with pytest.raises(SwarmError, match="damaged Node"):
        records.parse(records.Node, b"\xff\xff\xff")
