"""What a sidecar needs to catch up. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controlplane.core.resume import Resume, TableHistory, resume
from swarmplane.ids import ModelName, NodeId, SwarmId
from swarmplane.routes import ModelRoute, NodeEntry, RouteDelta, RouteTable, Version, apply_delta

SWARM = SwarmId("s")


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        pytest.param(Version(0, 0), Resume.SNAPSHOT, id="nothing"),
        pytest.param(Version(2, 0), Resume.SNAPSHOT, id="nothing-of-this-generation"),
        pytest.param(Version(1, 50), Resume.SNAPSHOT, id="another-generation"),
        pytest.param(Version(3, 60), Resume.SNAPSHOT, id="another-generation-ahead"),
        pytest.param(Version(2, 61), Resume.WAIT, id="ahead-of-our-watch"),
        pytest.param(Version(2, 60), Resume.DELTA, id="current"),
        pytest.param(Version(2, 40), Resume.DELTA, id="at-the-horizon"),
        pytest.param(Version(2, 39), Resume.SNAPSHOT, id="older-than-the-kept-tombstones"),
    ],
)
def test_how_to_catch_up(have: Version, expected: Resume) -> None:
    """Kills: each comparison turned or dropped."""
    assert resume(have, Version(2, 60), 40) is expected


def test_who_has_nothing_gets_a_snapshot_even_where_all_history_is_known() -> None:
    """Kills: revision 0 taken for a version."""
    assert resume(Version(2, 0), Version(2, 60), 0) is Resume.SNAPSHOT


NAMES = ["a", "b", "c", "d"]
steps = st.lists(
    st.tuples(
        st.sampled_from(["put_model", "remove_model", "put_node", "remove_node", "other"]),
        st.sampled_from(NAMES),
        st.booleans(),
    ),
    max_size=40,
)


def apply(history: TableHistory, step: str, name: str, revision: int) -> None:
    match step:
        case "put_model":
            history.put_model(ModelRoute(ModelName(name), revision=revision))
        case "put_node":
            history.put_node(NodeEntry(NodeId(name), name, revision=revision))
        case "remove_model":
            history.remove_model(ModelName(name), revision)
        case "remove_node":
            history.remove_node(NodeId(name), revision)


def received(table: RouteTable, update: RouteTable | RouteDelta) -> RouteTable:
    return update if isinstance(update, RouteTable) else apply_delta(table, update)


@example([("put_model", "a", True), ("remove_model", "a", False), ("put_model", "a", True)], 3)
@example([("put_node", "a", True), ("remove_node", "a", False), ("put_node", "a", True)], 3)
@given(steps, st.integers(0, 3))
def test_whoever_asks_now_and_then_has_the_whole_table(
    history_of: list[tuple[str, str, bool]], max_tombstones: int
) -> None:
    """Names of models and nodes are the same texts on purpose.

    Kills: tombstones not cleared by a put, puts not cleared by a removal, pruned tombstones without a new
    horizon, `<` for `<=` in the walk, a walk from the old end, models and nodes under one key.
    """
    history = TableHistory(SWARM, max_tombstones=max_tombstones)
    history.advance(Version(1, 1))
    sidecar = RouteTable(SWARM)
    for revision, (step, name, asks) in enumerate(history_of, start=2):
        apply(history, step, name, revision)
        history.advance(Version(1, revision))
        if asks:
            update = history.update_for(sidecar.version)
            assert update is not None
            sidecar = received(sidecar, update)
            assert sidecar == history.snapshot()


@given(steps, st.integers(1, 45))
def test_a_delta_holds_only_what_changed_since(history_of: list[tuple[str, str, bool]], since: int) -> None:
    """Kills: everything sent always."""
    history = TableHistory(SWARM)
    for revision, (step, name, _) in enumerate(history_of, start=2):
        apply(history, step, name, revision)
    history.advance(Version(1, 50))
    delta = history.update_for(Version(1, since))
    assert isinstance(delta, RouteDelta)
    assert all(route.revision > since for route in delta.models)
    assert all(entry.revision > since for entry in delta.nodes)
    late = {
        (step.split("_")[1], name) for step, name, _ in history_of[max(0, since - 1) :] if step != "other"
    }
    sent = len(delta.models) + len(delta.nodes) + len(delta.removed_models) + len(delta.removed_nodes)
    assert sent == len(late)


def test_a_current_sidecar_gets_an_empty_delta_and_one_that_is_ahead_waits() -> None:
    history = TableHistory(SWARM)
    history.put_model(ModelRoute(ModelName("m"), revision=5))
    history.advance(Version(1, 7))
    same = history.update_for(Version(1, 5))
    assert isinstance(same, RouteDelta)
    assert same.empty
    assert same.version == Version(1, 7)
    assert history.update_for(Version(1, 8)) is None


def test_what_happened_before_our_time_needs_a_snapshot() -> None:
    history = TableHistory(SWARM)
    history.forget_before(5)
    history.forget_before(3)
    history.put_model(ModelRoute(ModelName("m"), revision=4))
    history.put_node(NodeEntry(NodeId("n"), "n", revision=6))
    history.advance(Version(1, 9))
    assert history.horizon == 5
    assert history.version == Version(1, 9)
    assert isinstance(history.update_for(Version(1, 4)), RouteTable)
    assert isinstance(history.update_for(Version(1, 5)), RouteDelta)
    assert replace(history.models[ModelName("m")], revision=0) == ModelRoute(ModelName("m"))
    assert list(history.nodes) == ["n"]
