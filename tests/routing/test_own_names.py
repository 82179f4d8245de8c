"""What own models are called: as the control plane compiles it, before and after it has done so."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.routes import NodeFacts, compile_routes
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.own_names import own_names
from sidecar.routing.view import own_endpoints
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SwarmId
from swarmplane.inventory import Backend, BackendModel, Inventory
from swarmplane.routes import ModelRoute, RouteTable, Version

ME, BEE = NodeId("me"), NodeId("bee")
Routes = dict[ModelName, ModelRoute]
Models = list[tuple[str, str, str]]
"""Names, quantisations, digests."""


def inventory(models: Models) -> Inventory:
    found = tuple(BackendModel(name, quantization=q, digest=d) for name, q, d in models)
    return Inventory((Backend(BackendName("b"), "ollama", models=found),))


def compiled(nodes: Mapping[str, Models], before: Routes | None = None) -> Routes:
    facts = [NodeFacts(NodeId(node), inventory(models)) for node, models in nodes.items()]
    return dict(compile_routes(facts, standing=before or {}))


def named(models: Models, table: Mapping[ModelName, ModelRoute]) -> Mapping[EndpointId, ModelName]:
    own = own_endpoints(ME, inventory(models))
    return own_names(ME, table, {key: (one.canonical, one.endpoint) for key, one in own.items()})


offers = st.lists(
    st.tuples(st.sampled_from(["m", "n", "m@q4"]), st.sampled_from(["q4", "q8"]), st.sampled_from(["", "1"])),
    max_size=3,
    unique_by=lambda one: one[0],
)


@given(offers, offers, offers)
def test_names_are_those_of_the_table(mine: Models, one: Models, two: Models) -> None:
    """Kills: the told name where a row says another, rows of others taken for ours, one route looked at."""
    table = compiled({"me": mine, "one": one, "two": two})
    names = {endpoint.id: route.name for route in table.values() for endpoint in route.endpoints}
    assert named(mine, table) == {key: name for key, name in names.items() if key.startswith("me/")}


@given(offers, offers)
def test_what_was_not_compiled_is_named_as_it_will_be(mine: Models, others: Models) -> None:
    """Kills: the told name where others have other weights under it, others' names taken from them."""
    before = compiled({"bee": others})
    after = compiled({"bee": others, "me": mine}, before)
    will = {e.id: route.name for route in after.values() for e in route.endpoints if e.node == ME}
    assert named(mine, before) == will


def test_a_row_names_its_endpoint_whatever_the_table_has_besides() -> None:
    """Kills: rows looked for in routes of the told name only, or passed over for what would be compiled."""
    mine: Models = [("m", "q4", "")]
    (endpoint,) = compiled({"me": mine})[ModelName("m")].endpoints
    table = {
        ModelName("z"): ModelRoute(ModelName("z"), (endpoint,)),
        ModelName("m"): ModelRoute(ModelName("m")),
    }
    assert named(mine, table) == {endpoint.id: "z"}


def test_a_lone_host_keeps_its_own_models_apart() -> None:
    """Kills: names found for joined hosts only."""
    lone = CurrentRoutes(None)
    backends = tuple(
        Backend(BackendName(f"b{i}"), "ollama", models=(BackendModel("m", quantization=q),))
        for i, q in enumerate(("Q4_0", "Q8_0", "Q4_0"))
    )
    lone.set_own(Inventory(backends))
    assert {name: len(route.endpoints) for name, route in lone.view.models.items()} == {"m": 2, "m@Q8_0": 1}


def test_a_view_follows_the_table_and_forgets_nothing_that_was_learned() -> None:
    """Kills: own rows under the told name, ejections forgotten at every look, names that never go back."""
    routes = CurrentRoutes(ME)
    mine: Models = [("m", "Q8_0", "")]
    table = compiled({"bee": [("m", "Q4_0", "")], "me": mine}, compiled({"bee": [("m", "Q4_0", "")]}))
    routes.set_own(inventory(mine))
    key = EndpointId("me/b/m")
    assert routes.view.own[key].canonical == "m"
    routes.install(RouteTable(SwarmId("s"), Version(1, 2), table))
    assert routes.view.own[key].canonical == "m@Q8_0"
    assert [e.node for e in routes.view.models[ModelName("m")].endpoints] == [BEE]
    routes.eject(key, 100.0)
    routes.set_own(inventory(mine))
    assert not routes.admits(key, 50.0)
    routes.install(RouteTable(SwarmId("s"), Version(1, 3), compiled({"me": mine})))
    assert routes.view.own[key].canonical == "m"
