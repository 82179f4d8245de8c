"""Candidates are kept between requests; whatever changes shows at once. Docstrings name mutants killed."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import pytest

from sidecar.core.candidate import UNKNOWN_FACTS, Candidate
from sidecar.core.candidates import Candidates
from sidecar.core.load import EndpointLoad
from sidecar.core.strategies import front_by_load
from sidecar.routing import stands
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.stands import Offer
from swarmplane.conditions import Condition, EndpointCondition
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId, endpoint_id
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version

ME, SERVER, MODEL = NodeId("me"), BackendName("srv"), ModelName("tiny")
HERE = endpoint_id(ME, BackendName("own"), "tiny")
THERE = endpoint_id(NodeId("n0"), SERVER, "tiny")
NOW_S = 1000.0


def table(others: int, *, revision: int = 5, address: str = "10.0.0.1:1", strategy: str = "") -> RouteTable:
    ids = [NodeId(f"n{number}") for number in range(others)]
    route = ModelRoute(
        MODEL,
        tuple(Endpoint(endpoint_id(node, SERVER, "tiny"), node, SERVER, "tiny", slots=4) for node in ids),
        strategy=strategy,
    )
    nodes = {node: NodeEntry(node, f"{node}-name", (address,)) for node in ids}
    return RouteTable(
        SwarmId("s"), Version(1, revision), MappingProxyType({MODEL: route}), MappingProxyType(nodes)
    )


def routes_to(others: int, *, strategy: str = "") -> CurrentRoutes:
    routes = CurrentRoutes(ME, clock=lambda: NOW_S)
    models = (BackendModel("tiny", state=ModelState.LOADED),)
    routes.set_own(Inventory((Backend(BackendName("own"), "openai", healthy=True, models=models),)))
    routes.install(table(others, strategy=strategy))
    return routes


def offered(routes: CurrentRoutes, name: str = "tiny") -> Offer:
    """What requests that come now are offered; of a name that was resolved before."""
    known = routes.several(name, NOW_S)
    assert known is not None
    return known[1]


def found(routes: CurrentRoutes, key: EndpointId, now_s: float = NOW_S) -> Candidate | None:
    """What a request is offered of ``key``; the same as what a new sidecar would say."""
    resolved = routes.resolve("tiny", now_s).candidates
    return next((c for c in resolved if c.endpoint.id == key), None)


def condition(routes: CurrentRoutes, node: NodeId, until_s: float) -> None:
    key = HERE if node == ME else THERE
    routes.set_condition(node, Condition(endpoints=(EndpointCondition(key, size_bytes=7),)), until_s)


Change = Callable[[CurrentRoutes], None]


@pytest.mark.parametrize("others", [3, 40])
@pytest.mark.parametrize(
    ("key", "change", "sees"),
    [
        (HERE, lambda r: r.begin(HERE, "me"), lambda c: c.in_flight == 1),
        (THERE, lambda r: r.begin(THERE, "me"), lambda c: c.in_flight == 1),
        (HERE, lambda r: r.set_queued(HERE, 3), lambda c: c.queued == 3),
        (HERE, lambda r: r.set_outside(HERE, 2), lambda c: c.in_flight == 2),
        (HERE, lambda r: r.set_learned_slots({HERE: 6}), lambda c: c.slots == 6),
        (HERE, lambda r: condition(r, ME, NOW_S + 9), lambda c: c.facts.size_bytes == 7),
        (THERE, lambda r: condition(r, NodeId("n0"), NOW_S + 9), lambda c: c.facts.size_bytes == 7),
        (
            THERE,
            lambda r: r.take_load(EndpointLoad(THERE, {"x": 2, "me": 5}, 1, 9), NOW_S),
            lambda c: (c.in_flight, c.queued, c.slots, c.load_known) == (2, 1, 9, True),
        ),
        (THERE, lambda r: r.set_suspects(frozenset({NodeId("n0")})), lambda c: c.suspect),
        (
            THERE,
            lambda r: r.install(table(len(r.view.table.nodes), revision=6, address="10.0.0.2:2")),
            lambda c: c.peer_addresses == ("10.0.0.2:2",),
        ),
        (THERE, lambda r: r.eject(THERE, NOW_S + 5), lambda c: c is None),
        (THERE, lambda r: r.eject(NodeId("n0"), NOW_S + 5), lambda c: c is None),
        (THERE, lambda r: r.learn_gone(THERE, NOW_S), lambda c: c is None),
        (THERE, lambda r: r.hold_full(THERE, NOW_S + 5), lambda c: c is None),
        (THERE, lambda r: r.balancer.appeared(THERE, NOW_S), lambda c: c.slots == 1),
        (HERE, lambda r: r.set_draining(draining=True), lambda c: c is None),
    ],
)
def test_a_change_shows_at_once(
    others: int, key: EndpointId, change: Change, sees: Callable[[Candidate | None], bool]
) -> None:
    """Kills: a candidate kept over any of these, by each of the calls that tell of them."""
    routes = routes_to(others)
    for _ in range(3):
        before = found(routes, key)
        assert before is not None
        assert not sees(before)
        assert before.facts is UNKNOWN_FACTS
    change(routes)
    assert sees(found(routes, key))
    assert sees(found(routes, key)), "and stays"


def test_a_report_becomes_too_old_while_nothing_else_changes() -> None:
    """Kills: candidates that hold for ever, and ones of before a report that hold after the next."""
    routes = routes_to(3)
    routes.take_load(EndpointLoad(THERE, {"x": 2}, 0, 9), NOW_S)
    for later_s, known in ((0.0, True), (3.0, True), (3.1, False), (9.0, False)):
        one = found(routes, THERE, NOW_S + later_s)
        assert one is not None
        assert (one.load_known, one.in_flight) == (known, 2 if known else 0)
    routes.take_load(EndpointLoad(THERE, {"x": 3}, 0, 9), NOW_S + 9.0)
    again = found(routes, THERE, NOW_S + 9.0)
    assert again is not None
    assert again.in_flight == 3


def test_a_condition_becomes_too_old() -> None:
    """Kills: housekeeping that tells nobody whose word it forgot."""
    routes = routes_to(3)
    condition(routes, NodeId("n0"), NOW_S + 9)
    assert found(routes, THERE).facts.size_bytes == 7  # type: ignore[union-attr]
    routes.housekeep(NOW_S + 10)
    assert found(routes, THERE, NOW_S + 10).facts is UNKNOWN_FACTS  # type: ignore[union-attr]


def test_requests_that_change_nothing_are_offered_the_same() -> None:
    """Kills: candidates made for every request; more than a few dozen kept of one endpoint."""
    routes = routes_to(3)
    assert all(found(routes, key) is found(routes, key) for key in (HERE, THERE))
    for _ in range(200):
        routes.begin(HERE, "me")
        found(routes, HERE)
    assert len(routes._stands.of(routes.view.own[HERE].endpoint).made) <= 64


@pytest.mark.parametrize("strategy", ["local_spillover", "least_load", "local_first"])
def test_where_loads_are_as_before_nothing_is_compared_again(strategy: str) -> None:
    """Kills: offers made anew, or of other counts; a front of another strategy or of no comparison."""
    routes = routes_to(3, strategy=strategy)
    routes.resolve("tiny", NOW_S)
    seen = []
    for _ in range(3):
        seen.append(offered(routes))
        routes.begin(THERE, "me")
    for one in reversed(seen):
        routes.end(THERE, "me")
        again = offered(routes)
        assert again is one
        assert again.front == front_by_load(again.candidates, strategy)
    assert len({id(one) for one in seen}) == 3


def test_where_load_does_not_decide_there_is_no_front() -> None:
    """Kills: a front for every strategy."""
    for strategy in ("least_cost", "latency", "round_robin", "failover", "batch_shard"):
        routes = routes_to(3, strategy=strategy)
        routes.resolve("tiny", NOW_S)
        assert offered(routes).front is None


def test_offers_are_bounded_over_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: as many kept as there are ways to be busy; those of another model or name left when they are."""
    monkeypatch.setattr(stands, "_MOST_OFFERS", 20)
    routes = routes_to(3)
    for name in ("tiny", "TINY"):
        routes.resolve(name, NOW_S)
    groups = list(routes._groups.values())
    for _ in range(60):
        routes.begin(THERE, "me")
        for name in ("tiny", "TINY"):
            offered(routes, name)
        assert sum(len(group.offers) for group in groups) <= 20
    assert len(groups) == 2


def test_counts_are_of_all_origins_and_end_at_zero() -> None:
    """Kills: ends of nothing counted, totals of one origin, totals kept of endpoints that left."""
    routes = routes_to(3)
    for origin in ("me", "you", "you"):
        routes.begin(THERE, origin)
    routes.end(THERE, "nobody")
    assert routes.in_flight(THERE) == 3
    for origin in ("me", "you", "you", "you"):
        routes.end(THERE, origin)
    assert routes.in_flight(THERE) == 0
    assert not routes._counts.totals


def test_what_follows_from_many_is_found_once() -> None:
    """Kills: places and ids found anew for every request."""
    routes = routes_to(40)
    resolved = [routes.resolve("tiny", NOW_S).candidates for _ in range(3)]
    one, two = (c for c in resolved[1:] if isinstance(c, Candidates))
    assert one.known is two.known
    assert one.known.by_id[THERE] == one.known.ids.index(THERE)
    assert one.places(local=True) is two.places(local=True)
