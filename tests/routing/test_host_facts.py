"""What hosts tell of themselves, kept for choosing and put together for others.

Kills: others' endpoints described, a word that is never too old, memory of what runs counted as free.
"""

from __future__ import annotations

from sidecar.core.candidate import UNKNOWN_FACTS, Warmth
from sidecar.routing.conditions import Conditions
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.own_condition import GRAIN_BYTES, RECENT_S, HostReading, OwnCondition, Sources
from sidecar.routing.view import own_endpoints
from swarmplane.conditions import Condition, EndpointCondition
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.prefixes import EndpointPrefixes
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version

ME, OTHER = NodeId("me"), NodeId("other")
GB = 2**30


def endpoint(node: NodeId, model: str = "m") -> Endpoint:
    return Endpoint(EndpointId(f"{node}/b/{model}"), node, BackendName("b"), model)


def table(*endpoints: Endpoint) -> RouteTable:
    name = ModelName("m")
    nodes = {node: NodeEntry(node, node, ("h:1",)) for node in (ME, OTHER)}
    return RouteTable(SwarmId("s"), Version(1, 1), {name: ModelRoute(name, endpoints)}, nodes)


def test_facts_come_from_the_owner_and_end_with_their_time() -> None:
    known = Conditions()
    here, there = endpoint(OTHER), endpoint(ME)
    told = Condition(
        pressure=0.95,
        endpoints=(EndpointCondition(here.id, "cold"), EndpointCondition(there.id, "cold")),
    )
    known.tell(OTHER, told, 100.0)
    assert known.of(here).warmth is Warmth.COLD
    assert known.of(endpoint(OTHER, "unnamed")).pressure == 0.95
    assert known.of(there) is UNKNOWN_FACTS, "nobody speaks for others"
    known.housekeep(99.9)
    assert known.of(here) is not UNKNOWN_FACTS
    known.housekeep(100.0)
    assert known.of(here) is UNKNOWN_FACTS
    known.tell(OTHER, told, 100.0)
    known.tell(OTHER, Condition(owner_active=True), 100.0)
    assert known.of(here).warmth is Warmth.LOADED, "the last word replaces all"
    known.tell(OTHER, None, 100.0)
    assert known.of(here) is UNKNOWN_FACTS


def test_candidates_carry_the_facts_of_their_owner() -> None:
    routes = CurrentRoutes(ME)
    routes.install(table(endpoint(OTHER)))
    routes.set_condition(OTHER, Condition(owner_active=True), 50.0)
    (candidate,) = routes.resolve("m", 0.0).candidates
    assert candidate.facts.owner_active
    routes.housekeep(50.0)
    (candidate,) = routes.resolve("m", 0.0).candidates
    assert candidate.facts is UNKNOWN_FACTS


def test_digests_of_strangers_and_of_ourselves_are_not_taken() -> None:
    routes = CurrentRoutes(ME)
    routes.install(table(endpoint(OTHER)))
    prefixes = routes.balancer.prefixes
    for owner in ("stranger", "me"):
        routes.set_cached(
            EndpointPrefixes(EndpointId(f"{owner}/b/m"), ModelName("m"), b"12345678", hash_version=1)
        )
    assert prefixes.size == 0
    routes.set_cached(EndpointPrefixes(endpoint(OTHER).id, ModelName("m"), b"12345678", hash_version=1))
    assert prefixes.match("m", endpoint(OTHER).id, [b"12345678"]) == 1
    routes.set_cached(EndpointPrefixes(endpoint(OTHER).id, ModelName("m"), b"", hash_version=1))
    assert prefixes.match("m", endpoint(OTHER).id, [b"12345678"]) == 0
    routes.balancer.agree(b"")
    assert not routes.balancer.agreed
    routes.balancer.agree(b"k" * 32)
    assert routes.balancer.agreed


def inventory(**states: ModelState) -> Inventory:
    models = tuple(BackendModel(name, state=state, size_bytes=4 * GB) for name, state in states.items())
    return Inventory((Backend(BackendName("b"), "openai", models=models),))


def test_the_host_tells_what_is_loaded_and_what_was() -> None:
    busy: set[EndpointId] = set()
    composer = OwnCondition(Sources(lambda _: 12.345, lambda _: 0.512, lambda key: key not in busy))
    reading = HostReading(free_bytes=10 * GB + 5, memory_bytes=32 * GB, pressure=0.333, owner_active=False)

    def told(now_s: float, **states: ModelState) -> Condition:
        found = inventory(**states)
        return composer.compose(reading, own_endpoints(ME, found), found, now_s)

    first = told(0.0, a=ModelState.LOADED, c=ModelState.FAILED)
    assert first.free_bytes == 10 * GB // GRAIN_BYTES * GRAIN_BYTES
    assert first.pressure == 0.35
    assert first.owner_active is False
    assert first.overheated is None
    assert first.endpoints[0] == EndpointCondition(
        EndpointId("me/b/a"), "loaded", size_bytes=4 * GB, tokens_per_s=12.0, kv_used=0.5
    )
    assert first.endpoints[1].warmth == ""
    warm = told(5.0, a=ModelState.COLD, b=ModelState.LOADED)
    assert [one.warmth for one in warm.endpoints] == ["recent", "loaded"]
    assert warm.free_bytes == 14 * GB, "b would make room"
    busy.add(EndpointId("me/b/b"))
    assert told(6.0, a=ModelState.COLD, b=ModelState.LOADED).free_bytes == 10 * GB
    later = told(5.0 + RECENT_S, a=ModelState.COLD, b=ModelState.LOADING)
    assert [one.warmth for one in later.endpoints] == ["cold", "loading"]


def test_unknown_figures_stay_unknown() -> None:
    composer = OwnCondition(Sources(lambda _: 0.0, lambda _: None, lambda _: True))
    found = inventory(a=ModelState.LOADED)
    condition = composer.compose(HostReading(), own_endpoints(ME, found), found, 0.0)
    assert condition.free_bytes is None
    assert condition.pressure is None
    assert condition.endpoints[0].kv_used is None
