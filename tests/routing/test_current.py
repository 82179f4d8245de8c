"""What the routes in use resolve to, and what they count."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from sidecar.core.candidates import Candidates
from sidecar.core.cost import Ask
from sidecar.core.load import EndpointLoad
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.resolution import Resolution
from swarmplane.errors import Code
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId, endpoint_id
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version

ME, BEE, SEA = NodeId("me"), NodeId("bee"), NodeId("sea")
SERVER = BackendName("srv")
NOW_S = 1000.0


def own(*states: ModelState, name: str = "tiny", healthy: bool = True, slots: int = 2) -> Inventory:
    return Inventory(
        tuple(
            Backend(
                BackendName(f"own{i}"), "openai", healthy, models=(BackendModel(name, state=s),), slots=slots
            )
            for i, s in enumerate(states)
        )
    )


def there(node: NodeId, *, model: str = "tiny", ready: bool = True, draining: bool = False) -> Endpoint:
    return Endpoint(
        endpoint_id(node, SERVER, model), node, SERVER, model, ready, draining, slots=4, context_length=512
    )


def table(*endpoints: Endpoint, revision: int = 5, name: str = "tiny", **sessions: int) -> RouteTable:
    nodes = {
        node: NodeEntry(node, f"{node}-name", (f"10.0.0.1:{i}",), session=sessions.get(node, 1))
        for i, node in enumerate((ME, BEE, SEA))
    }
    route = ModelRoute(ModelName(name), endpoints, aliases=("nick",), strategy="least_load")
    return RouteTable(
        SwarmId("s"), Version(1, revision), MappingProxyType({route.name: route}), MappingProxyType(nodes)
    )


@pytest.fixture
def routes() -> CurrentRoutes:
    return CurrentRoutes(ME)


def nodes(resolution: Resolution) -> set[str]:
    return {candidate.endpoint.node for candidate in resolution.candidates}


def test_nothing_is_known_at_first(routes: CurrentRoutes) -> None:
    assert routes.resolve("tiny", NOW_S).code is Code.MODEL_NOT_FOUND
    assert routes.resolve("tiny", NOW_S).model is None
    assert routes.names() == ()
    assert not routes.view.stale


def test_a_lone_host_serves_its_own_backends() -> None:
    lone = CurrentRoutes(None, node_name="desk")
    lone.set_own(own(ModelState.LOADED))
    found = lone.resolve("tiny", NOW_S)
    assert [c.endpoint.id for c in found.candidates] == ["local/own0/tiny"]
    assert found.candidates[0].node_name == "desk"
    assert found.strategy(lone.view.table) == "local_spillover"
    assert lone.names()[0].nodes == ("desk",)


def test_other_nodes_come_from_the_table_and_own_ones_from_observation(routes: CurrentRoutes) -> None:
    """Rows about ourselves are ignored: ours are what our backends show."""
    routes.install(table(there(BEE), there(ME)))
    assert nodes(routes.resolve("tiny", NOW_S)) == {BEE}
    routes.set_own(own(ModelState.LOADED))
    found = routes.resolve("TINY", NOW_S)
    assert {c.endpoint.id for c in found.candidates} == {"me/own0/tiny", "bee/srv/tiny"}
    assert [c.local for c in found.candidates if c.endpoint.node == ME] == [True]
    other = next(c for c in found.candidates if not c.local)
    assert (other.peer_addresses, other.node_name, other.slots) == (("10.0.0.1:1",), "bee-name", 4)
    assert found.strategy(routes.view.table) == "least_load"
    assert routes.resolve("nick", NOW_S).model == "tiny"


def test_what_an_own_endpoint_has_cached_outlives_the_news_of_it(routes: CurrentRoutes) -> None:
    """It may serve before its row is in the table. Kills: caches forgotten with every row that is new."""
    routes.install(table(revision=5))
    routes.set_own(own(ModelState.LOADED))
    mine, theirs, blocks = EndpointId("me/own0/tiny"), there(BEE).id, (b"block",)
    for endpoint in (mine, theirs):
        routes.balancer.prefixes.insert("tiny", endpoint, blocks)
    row = Endpoint(mine, ME, BackendName("own0"), "tiny", ready=True, draining=False)
    routes.install(table(row, there(BEE), revision=6))
    matches = {one: routes.balancer.prefixes.match("tiny", one, blocks) for one in (mine, theirs)}
    assert matches == {mine: 1, theirs: 0}


def test_the_owner_of_a_hop_sees_its_own_endpoints_only(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE)))
    assert routes.resolve("tiny", NOW_S, local_only=True).code is Code.NO_REPLICA
    routes.set_own(own(ModelState.LOADED))
    assert nodes(routes.resolve("tiny", NOW_S, local_only=True)) == {ME}


@pytest.mark.parametrize(
    ("inventory", "endpoints", "code"),
    [
        pytest.param(own(ModelState.LOADING), (), Code.MODEL_LOADING, id="our-engine-loads"),
        pytest.param(
            own(ModelState.LOADING, healthy=False), (), Code.MODEL_LOADING, id="our-engine-is-not-up-yet"
        ),
        pytest.param(own(ModelState.FAILED), (), Code.NO_REPLICA, id="our-engine-failed"),
        pytest.param(own(ModelState.LOADED, healthy=False), (), Code.NO_REPLICA, id="our-backend-is-down"),
        pytest.param(own(ModelState.COLD), (), None, id="loaded-on-demand"),
        pytest.param(own(), (), Code.NO_REPLICA, id="known-but-nobody-has-it"),
        pytest.param(own(), (there(BEE, ready=False),), Code.MODEL_LOADING, id="another-node-loads"),
        pytest.param(own(), (there(BEE, draining=True),), Code.DRAINING, id="another-node-drains"),
        pytest.param(
            own(), (there(BEE, draining=True), there(SEA, ready=False)), Code.MODEL_LOADING,
            id="loading-before-draining",
        ),
        pytest.param(own(ModelState.LOADING), (there(BEE),), None, id="another-node-is-ready"),
        pytest.param(own(ModelState.FAILED, ModelState.LOADED), (), None, id="a-second-backend-is-ready"),
        pytest.param(own(), (there(ME),), Code.NO_REPLICA, id="only-a-row-about-ourselves"),
    ],
)  # fmt: skip
def test_why_there_is_no_candidate(
    routes: CurrentRoutes, inventory: Inventory, endpoints: tuple[Endpoint, ...], code: Code | None
) -> None:
    routes.install(table(*endpoints))
    routes.set_own(inventory)
    found = routes.resolve("tiny", NOW_S)
    assert found.code is code
    assert (found.state == "ready") == (code is None)
    assert found.route is not None


def test_a_gone_endpoint_stays_out_until_a_newer_table(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE), there(SEA)))
    routes.learn_gone(EndpointId("bee/srv/tiny"), NOW_S)
    assert nodes(routes.resolve("tiny", NOW_S)) == {SEA}
    routes.learn_gone(EndpointId("sea/srv/tiny"), NOW_S)
    assert routes.resolve("tiny", NOW_S).code is Code.NO_REPLICA
    routes.install(table(there(BEE), there(SEA), revision=6))
    assert nodes(routes.resolve("tiny", NOW_S)) == {BEE, SEA}


def test_our_own_gone_endpoint_returns_when_its_backend_shows_something_new(routes: CurrentRoutes) -> None:
    routes.set_own(own(ModelState.LOADED))
    routes.learn_gone(EndpointId("me/own0/tiny"), NOW_S)
    routes.set_own(own(ModelState.LOADED))
    assert routes.resolve("tiny", NOW_S).code is Code.NO_REPLICA
    routes.set_own(own(ModelState.LOADED, slots=3))
    assert routes.resolve("tiny", NOW_S).code is None


def test_ejection_of_a_node_and_of_an_endpoint_never_takes_the_last_candidate(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE), there(SEA)))
    routes.connect_failed(BEE, NOW_S, 0.0)
    assert nodes(routes.resolve("tiny", NOW_S)) == {SEA}
    routes.eject(EndpointId("sea/srv/tiny"), NOW_S + 5)
    assert nodes(routes.resolve("tiny", NOW_S)) == {BEE, SEA}
    assert nodes(routes.resolve("tiny", NOW_S + 2)) == {BEE}
    assert not routes.admits(EndpointId("sea/srv/tiny"), NOW_S + 2)
    routes.reached(EndpointId("sea/srv/tiny"))
    assert nodes(routes.resolve("tiny", NOW_S)) == {SEA}


def test_a_new_session_of_a_node_ends_its_ejection(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE), there(SEA)))
    routes.connect_failed(BEE, NOW_S, 0.0)
    routes.install(table(there(BEE), there(SEA), revision=6))
    assert nodes(routes.resolve("tiny", NOW_S)) == {SEA}
    routes.install(table(there(BEE), there(SEA), revision=7, bee=2))
    assert nodes(routes.resolve("tiny", NOW_S)) == {BEE, SEA}


def test_full_endpoints_are_not_asked_until_their_owner_reports_room(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE), there(SEA)))
    bee, sea = EndpointId("bee/srv/tiny"), EndpointId("sea/srv/tiny")
    routes.hold_full(bee, NOW_S + 3)
    assert nodes(routes.resolve("tiny", NOW_S)) == {SEA}
    routes.hold_full(sea, NOW_S + 2)
    found = routes.resolve("tiny", NOW_S)
    assert (found.code, found.state, found.wait_s) == (Code.SATURATED, "saturated", 2.0)
    routes.set_load(bee, {"sea": 4}, 0, 4, NOW_S)
    assert routes.resolve("tiny", NOW_S).code is Code.SATURATED
    routes.set_load(bee, {"sea": 3}, 0, 4, NOW_S)
    assert nodes(routes.resolve("tiny", NOW_S)) == {BEE}


@pytest.mark.parametrize(
    ("others", "queued", "slots", "has_room"),
    [(0, 0, 1, True), (1, 0, 1, False), (0, 1, 1, False), (0, 0, 0, False)],
    ids=["it-had-none-but-ours", "others-fill-it", "others-wait", "slots-unknown"],
)
def test_an_end_of_our_own_request_makes_room_where_nobody_else_is(
    routes: CurrentRoutes, *, others: int, queued: int, slots: int, has_room: bool
) -> None:
    bee = EndpointId("bee/srv/tiny")
    routes.install(table(there(BEE)))
    routes.begin(bee, ME)
    # As a refusal tells it, while one of ours runs there.
    routes.set_load(bee, {ME: 1, SEA: others}, queued, slots, routes._clock_s())
    routes.hold_full(bee, NOW_S + 3)
    routes.end(bee, SEA)
    assert not nodes(routes.resolve("tiny", NOW_S)), "that of another tells nothing"
    routes.end(bee, ME)
    assert bool(nodes(routes.resolve("tiny", NOW_S))) is has_room


def test_the_end_of_a_request_says_nothing_where_no_report_is_fresh(routes: CurrentRoutes) -> None:
    bee = EndpointId("bee/srv/tiny")
    routes.install(table(there(BEE)))
    routes.begin(bee, ME)
    routes.set_load(bee, {ME: 1}, 0, 1, routes._clock_s() - 10)
    routes.hold_full(bee, NOW_S + 3)
    routes.end(bee, ME)
    assert not nodes(routes.resolve("tiny", NOW_S))


def test_suspects_are_marked_and_stay(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE), there(SEA)))
    routes.set_own(own(ModelState.LOADED))
    routes.set_suspects(frozenset({BEE, ME}))
    assert {c.endpoint.node: c.suspect for c in routes.resolve("tiny", NOW_S).candidates} == {
        BEE: True,
        SEA: False,
        ME: False,
    }, "that others miss our heartbeats says nothing about our own backends"


def test_load_of_others_is_their_report_with_our_part_exact(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE)))
    bee = EndpointId("bee/srv/tiny")
    routes.begin(bee, ME)
    assert (c := routes.resolve("tiny", NOW_S).candidates[0]).in_flight == 1
    assert not c.load_known
    routes.set_load(bee, {ME: 9, SEA: 2}, 1, 3, NOW_S)
    c = routes.resolve("tiny", NOW_S + 1).candidates[0]
    assert (c.in_flight, c.queued, c.slots, c.load_known) == (3, 1, 3, True)
    routes.set_load(bee, {SEA: 7}, 0, 3, NOW_S - 1)
    assert routes.resolve("tiny", NOW_S).candidates[0].in_flight == 3, "an older report changes nothing"
    c = routes.resolve("tiny", NOW_S + 4).candidates[0]
    assert (c.in_flight, c.queued, c.slots, c.load_known) == (1, 0, 3, False)
    routes.end(bee, ME)
    assert routes.in_flight(bee) == 0


def test_own_load_is_exact_whoever_sent_it(routes: CurrentRoutes) -> None:
    routes.set_own(own(ModelState.LOADED))
    mine = EndpointId("me/own0/tiny")
    before = routes.load_revision
    routes.begin(mine, ME)
    routes.begin(mine, BEE)
    routes.begin(mine, BEE)
    routes.set_queued(mine, 2)
    c = routes.resolve("tiny", NOW_S).candidates[0]
    assert (c.in_flight, c.queued, c.slots, c.load_known) == (3, 2, 2, True)
    assert routes.load_report() == (EndpointLoad(mine, {ME: 1, BEE: 2}, 2, 2),)
    assert routes.load_revision > before
    for origin in (ME, BEE, BEE, BEE):
        routes.end(mine, origin)
    routes.set_queued(mine, 0)
    assert routes.load_report() == (EndpointLoad(mine, {}, 0, 2),), "that it is idle again is told too"
    routes.set_load(mine, {BEE: 50}, 9, 1, NOW_S)
    assert routes.resolve("tiny", NOW_S).candidates[0].in_flight == 0
    assert routes.load_of(EndpointId("bee/srv/tiny")) is None


def test_counts_of_other_nodes_and_of_lost_endpoints_are_forgotten_when_idle(routes: CurrentRoutes) -> None:
    routes.set_own(own(ModelState.LOADED))
    mine, bee = EndpointId("me/own0/tiny"), EndpointId("bee/srv/tiny")
    for endpoint in (mine, bee):
        routes.begin(endpoint, ME)
    routes.end(bee, ME)
    assert routes._counts.seen == (mine,)  # the memory of counts must not grow with the swarm
    routes.set_own(own())
    assert routes.in_flight(mine) == 1
    assert routes.load_report() == ()
    routes.end(mine, ME)
    assert routes._counts.seen == ()


def test_tables_replace_whole_and_never_go_back(routes: CurrentRoutes) -> None:
    told: list[str] = []
    routes.subscribe(lambda: told.append(str(routes.view.table.version)))
    routes.install(table(there(BEE)), stale=True)
    first = routes.view
    assert first.stale
    routes.confirm()
    assert not routes.view.stale
    assert first.stale, "a view in use never changes"
    with pytest.raises(ValueError, match=r"1\.4 is older than 1\.5"):
        routes.install(table(revision=4))
    routes.install(table(revision=5))
    assert routes.resolve("tiny", NOW_S).code is Code.NO_REPLICA
    routes.install(RouteTable(SwarmId("s"), Version(2, 1)))
    assert routes.resolve("tiny", NOW_S).code is Code.MODEL_NOT_FOUND
    assert told == ["1.5", "1.5", "1.5", "2.1"]


def test_nothing_is_told_when_nothing_changes(routes: CurrentRoutes) -> None:
    routes.set_own(own(ModelState.LOADED))
    told: list[None] = []
    routes.subscribe(lambda: told.append(None))
    routes.set_own(own(ModelState.LOADED))
    routes.set_suspects(frozenset())
    routes.set_draining(draining=False)
    routes.confirm()
    assert told == []


def test_a_draining_host_keeps_its_models_known(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE)))
    routes.set_own(own(ModelState.LOADED))
    routes.set_draining(draining=True)
    assert nodes(routes.resolve("tiny", NOW_S)) == {BEE}
    assert routes.resolve("tiny", NOW_S, local_only=True).code is Code.DRAINING
    routes.set_draining(draining=False)
    assert nodes(routes.resolve("tiny", NOW_S)) == {ME, BEE}


def test_listing_says_where_a_model_is_and_whether_it_is_loaded(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE, ready=False), there(SEA, draining=True), there(ME)))
    routes.set_own(own(ModelState.COLD, ModelState.LOADING))
    routes.set_own(
        Inventory(
            (*own(ModelState.COLD).backends, Backend(SERVER, "ollama", models=(BackendModel("alone"),)))
        )
    )
    alone, tiny = routes.names()
    assert (alone.name, alone.nodes, alone.loaded, alone.aliases) == ("alone", ("me-name",), True, ())
    assert tiny.nodes == ("bee-name", "me-name", "sea-name")
    assert (tiny.loaded, tiny.context_length, tiny.aliases) == (False, 512, ("nick",))
    routes.install(table(there(BEE), revision=6))
    assert routes.names()[1].loaded


def test_housekeeping_forgets_what_has_no_effect(routes: CurrentRoutes) -> None:
    routes.install(table(there(BEE)))
    routes.set_load(EndpointId("bee/srv/tiny"), {}, 0, 1, NOW_S)
    routes.set_load(EndpointId("left/srv/tiny"), {}, 0, 1, NOW_S)
    routes.learn_gone(EndpointId("bee/srv/tiny"), NOW_S)
    routes.housekeep(NOW_S + 100)
    assert set(routes._stands._seen) == {"bee/srv/tiny"}  # reports of nodes that left must not pile up
    assert not routes.overlay.gone


def test_an_own_endpoint_that_was_used_is_reported_until_it_is_lost(routes: CurrentRoutes) -> None:
    routes.set_own(own(ModelState.LOADED))
    mine = EndpointId("me/own0/tiny")
    routes.begin(mine, BEE)
    routes.end(mine, BEE)
    assert routes.load_report() == (EndpointLoad(mine, {}, 0, 2),)
    routes.set_own(own(ModelState.LOADED, slots=3))
    assert routes.load_report() == (EndpointLoad(mine, {}, 0, 3),)
    routes.set_own(own())
    routes.set_own(own(ModelState.LOADED))
    assert routes.load_report() == ()


def test_a_row_about_ourselves_never_stands_beside_what_we_observe(routes: CurrentRoutes) -> None:
    mine = endpoint_id(ME, BackendName("own0"), "tiny")
    row = Endpoint(mine, ME, BackendName("own0"), "tiny", ready=False, slots=9)
    lost = Endpoint(EndpointId("me/lost/tiny"), ME, BackendName("lost"), "tiny")
    routes.install(table(row, lost))
    routes.set_own(own(ModelState.LOADED))
    (found,) = routes.resolve("tiny", NOW_S).candidates
    assert (found.endpoint.id, found.slots) == (mine, 2)
    assert [e.id for e in routes.view.models[ModelName("tiny")].endpoints] == [mine]


def test_a_listing_leaves_out_what_only_the_table_says_of_us(routes: CurrentRoutes) -> None:
    routes.install(table(there(ME)))
    assert [(one.nodes, one.loaded) for one in routes.names()] == [((), False)]


def test_another_generation_may_begin_lower(routes: CurrentRoutes) -> None:
    routes.install(RouteTable(SwarmId("s"), Version(2, 9)))
    routes.install(RouteTable(SwarmId("s"), Version(1, 1)))
    assert routes.view.table.version == Version(1, 1)


def test_reports_about_our_own_endpoints_are_not_kept(routes: CurrentRoutes) -> None:
    routes.set_own(own(ModelState.LOADED))
    mine = EndpointId("me/own0/tiny")
    routes.hold_full(mine, NOW_S + 3)
    routes.set_load(mine, {}, 0, 4, NOW_S)
    assert routes.resolve("tiny", NOW_S).code is Code.SATURATED


def test_what_was_learned_of_an_endpoint_survives_news_about_another(routes: CurrentRoutes) -> None:
    routes.set_own(own(ModelState.LOADED, ModelState.LOADED))
    routes.learn_gone(EndpointId("me/own0/tiny"), NOW_S)
    changed = own(ModelState.LOADED, ModelState.COLD)
    routes.set_own(changed)
    assert [c.endpoint.backend for c in routes.resolve("tiny", NOW_S).candidates] == ["own1"]


def test_of_a_hundred_endpoints_a_request_looks_at_a_few() -> None:
    """Kills: a candidate made for every endpoint of the table, doubt and slow start lost on the way."""
    endpoints = tuple(
        Endpoint(EndpointId(f"n{n:03}/b/m"), NodeId(f"n{n:03}"), BackendName("b"), "m", slots=2)
        for n in range(100)
    )
    name = ModelName("m")
    routes = CurrentRoutes(NodeId("me"))
    nodes = {e.node: NodeEntry(e.node, e.node, ("h:1",)) for e in endpoints}
    routes.install(RouteTable(SwarmId("s"), Version(1, 1), {name: ModelRoute(name, endpoints)}, nodes))
    found = routes.resolve("m", 0.0).candidates
    assert isinstance(found, Candidates)
    next(routes.balancer.choose(found, Ask("m"), strategy="least_cost", draw=0.4, now_s=0.0))
    assert found.made <= 4
    routes.balancer.returned[endpoints[0].id] = 0.0
    started = routes.resolve("m", 0.0).candidates[0]
    assert started.slots == 1, "it starts slowly"
