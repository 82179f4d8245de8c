"""What others send to a backend past the swarm is priced and told, and limits nobody."""

from __future__ import annotations

from sidecar.backends.figures import Figures
from sidecar.routing.counting import OUTSIDE
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.outside import Outside
from swarmplane.ids import BackendName, NodeId
from tests.fakes.inventories import inventory

ENGINE = BackendName("engine")


def _routes() -> CurrentRoutes:
    routes = CurrentRoutes(NodeId("me"))
    routes.set_own(inventory("m"))
    return routes


def test_what_was_there_at_two_looks_counts() -> None:
    """Kills: ours counted as others', one look believed, a figure that is never taken back."""
    routes = _routes()
    (key,) = routes.view.own
    outside = Outside(routes)
    routes.begin(key, "me")
    outside.told(ENGINE, Figures(running=3, waiting=2))
    assert routes.load_text(key) == "0;2;me=1"
    outside.told(ENGINE, Figures(running=3, waiting=None))
    (load,) = routes.load_report()
    assert load.in_flight_by_origin == {"me": 1, OUTSIDE: 2}
    assert routes.load_text(key) == "0;2;me=1,outside=2"
    (candidate,) = routes.resolve("m", 0.0).candidates
    assert (candidate.in_flight, routes.in_flight(key)) == (3, 1)
    assert routes.begin_within(key, "me", 2)
    outside.told(ENGINE, Figures(running=2, waiting=0))
    assert routes.load_text(key) == "0;2;me=2"
    outside.told(BackendName("another"), Figures(running=9))
    assert routes.load_text(key) == "0;2;me=2"


def test_who_tells_nothing_has_nobody_else() -> None:
    routes = _routes()
    (key,) = routes.view.own
    outside = Outside(routes)
    for figures in (Figures(running=1), Figures(running=1), Figures()):
        outside.told(ENGINE, figures)
    assert routes.load_report() == ()
    outside.told(ENGINE, Figures(running=1))
    outside.told(ENGINE, Figures(running=1))
    assert routes.load_text(key) == "0;2;outside=1"
    routes.set_own(inventory("other"))
    routes.set_own(inventory("m"))
    assert routes.load_text(key) == "0;2;"
