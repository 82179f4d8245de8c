"""When a sidecar says its load, and which models its clients use."""

from __future__ import annotations

from sidecar.control.outbox import Facts, Outbox, Pace
from sidecar.routing.current import CurrentRoutes
from swarmplane.ids import ModelName, NodeId
from swarmplane.inventory import Inventory
from swarmplane.v1 import sidecar_pb2 as pb

NOW_S = 100.0


def loads(outbox: Outbox, now_s: float) -> list[pb.Load]:
    found = []
    while (message := outbox.next(now_s)) is not None:
        if message.WhichOneof("kind") == "load":
            found.append(message.load)
    return found


def test_a_model_that_comes_into_use_is_said_and_an_instance_sets_the_pace() -> None:
    routes = CurrentRoutes(NodeId("me"))
    outbox = Outbox(Facts(routes, Inventory, list), Pace(1000.0, 0.25), NOW_S)
    loads(outbox, NOW_S)
    assert loads(outbox, NOW_S + 1) == []
    routes.uses.note(ModelName("b"), NOW_S + 1)
    routes.uses.note(ModelName("a"), NOW_S + 1)
    assert [list(load.uses) for load in loads(outbox, NOW_S + 1)] == [["a", "b"]]
    outbox.slow_down(2.0)
    routes.uses.note(ModelName("c"), NOW_S + 1.5)
    assert loads(outbox, NOW_S + 1.1) == []
    assert [list(load.uses) for load in loads(outbox, NOW_S + 1.5)] == [["a", "b", "c"]]
    routes.uses.note(ModelName("d"), NOW_S + 3)
    assert loads(outbox, NOW_S + 3) == []
    assert len(loads(outbox, NOW_S + 3.5)) == 1
