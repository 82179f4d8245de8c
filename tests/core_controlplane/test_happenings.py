"""Events from changes. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

import pytest

from controlplane.core.happenings import (
    Happening,
    NodeRow,
    member_happening,
    node_happening,
    route_happening,
    token_happening,
    wanted,
)
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId
from swarmplane.routes import Endpoint, ModelRoute

HERE, GONE = NodeRow("n", "ada", False), NodeRow("n", "ada", True)
ABSENT = ModelRoute(ModelName("m"))
LOADING = ModelRoute(
    ModelName("m"), (Endpoint(EndpointId("e"), NodeId("n"), BackendName("b"), "m", ready=False),)
)
READY = ModelRoute(ModelName("m"), (Endpoint(EndpointId("e"), NodeId("n"), BackendName("b"), "m"),))


def kind(happening: Happening | None) -> str:
    return happening.kind if happening else ""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, HERE, "node.enrolled", id="new"),
        pytest.param(HERE, GONE, "node.gone", id="decided"),
        pytest.param(GONE, GONE, "", id="still-gone"),
        pytest.param(GONE, HERE, "", id="back-is-told-by-its-lease"),
        pytest.param(HERE, HERE, "", id="labels-changed"),
        pytest.param(GONE, None, "node.removed", id="removed"),
        pytest.param(None, None, "", id="compacted-deletion"),
    ],
)
def test_nodes(before: NodeRow | None, after: NodeRow | None, expected: str) -> None:
    assert kind(node_happening(before, after)) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, "x", "node.joined", id="connected"),
        pytest.param("x", "y", "node.joined", id="a-new-life"),
        pytest.param("x", "x", "", id="reconnected"),
        pytest.param("x", None, "", id="lease-ended-is-no-decision"),
    ],
)
def test_members(before: str | None, after: str | None, expected: str) -> None:
    assert kind(member_happening("n", "ada", before, after)) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, READY, "model.ready", id="first"),
        pytest.param(LOADING, READY, "model.ready", id="loaded"),
        pytest.param(READY, READY, "", id="more-of-the-same"),
        pytest.param(READY, ABSENT, "model.absent", id="lost"),
        pytest.param(READY, None, "model.absent", id="dropped"),
        pytest.param(ABSENT, None, "", id="forgotten"),
        pytest.param(None, LOADING, "", id="loading"),
        pytest.param(None, None, "", id="compacted-deletion"),
    ],
)
def test_routes(before: ModelRoute | None, after: ModelRoute | None, expected: str) -> None:
    assert kind(route_happening(before, after)) == expected


@pytest.mark.parametrize(
    ("existed", "was_revoked", "revoked", "expected"),
    [
        pytest.param(False, False, False, "token.created", id="made"),
        pytest.param(True, False, False, "", id="used"),
        pytest.param(True, False, True, "token.revoked", id="revoked"),
        pytest.param(True, True, True, "", id="revoked-before"),
    ],
)
def test_tokens(existed: bool, was_revoked: bool, revoked: bool, expected: str) -> None:
    found = token_happening("t", existed=existed, was_revoked=was_revoked, revoked=revoked)
    assert kind(found) == expected


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        pytest.param([], True, id="all"),
        pytest.param(["node.gone"], True, id="exact"),
        pytest.param(["node.*"], True, id="family"),
        pytest.param(["nod.*"], False, id="half-a-family"),
        pytest.param(["node"], False, id="a-family-needs-its-star"),
        pytest.param(["model.*", "node.gone"], True, id="any-of-them"),
    ],
)
def test_kinds_wanted(patterns: list[str], expected: bool) -> None:
    """Kills: prefix without the dot, all for any."""
    assert wanted("node.gone", patterns) is expected
