"""What a node with a certificate, and no good intentions, can do to the others over its stream: nothing."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from controlplane.core.loads import MOST_OF_A_NODE
from controlplane.services import keyspace, routes
from swarmplane.ids import BackendName, ModelName
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.control import Plane, inventory

LONG = "x" * 900_000


def models(*names: str) -> tuple[BackendModel, ...]:
    return tuple(BackendModel(name, state=ModelState.LOADED) for name in names)


async def test_an_inventory_of_absurd_names_leaves_the_controller_at_work(plane: Plane) -> None:
    _, bad_credential = await plane.node("bad")
    _, good_credential = await plane.node("good")
    async with plane.stream(bad_credential) as bad, plane.stream(good_credential) as good:
        await bad.has(Inventory((Backend(BackendName(LONG), "openai", True, models=models("m")),), 1, 1))
        await bad.beat()
        await good.has(inventory("n"))
        await good.knows("n", 1)
        many = tuple(
            Backend(BackendName(f"{n}{'y' * 300_000}"), "openai", True, models=models("m")) for n in range(3)
        )
        await bad.has(Inventory(many, 1, 1))
        await good.has(inventory("n", "o"))
        await good.knows("o", 1)


async def test_a_flood_of_load_costs_others_nothing(plane: Plane) -> None:
    """Endpoints that nobody has, by the ten thousand, with origins and names without end."""
    mallory, bad_credential = await plane.node("mallory")
    _, good_credential = await plane.node("good")
    async with plane.stream(bad_credential) as bad, plane.stream(good_credential) as good:
        for turn in range(4):
            entries = [pb.EndpointLoad(endpoint_id=f"{mallory}/{turn}/{n}{'z' * 600}") for n in range(10_000)]
            await bad.send(load=pb.Load(endpoints=entries, uses=[f"m{n}" for n in range(100_000)]))
        origins = {f"origin-{n}{'o' * 100}": 1 for n in range(50_000)}
        await bad.send(
            load=pb.Load(
                endpoints=[pb.EndpointLoad(endpoint_id=f"{mallory}/e/m", in_flight_by_origin=origins)]
            )
        )
        await until(lambda: bool(good.loads))
        await good.has(inventory("n"))
        await good.knows("n", 1)
        board = plane.control.pushes.loads.endpoints_of([mallory])
        assert not good.ended
        assert len(board) <= MOST_OF_A_NODE


async def test_conditions_and_digests_of_absurd_size_are_cut(plane: Plane) -> None:
    mallory, bad_credential = await plane.node("mallory")
    _, good_credential = await plane.node("good")
    async with plane.stream(bad_credential) as bad, plane.stream(good_credential) as good:
        big = [
            pb.EndpointCondition(endpoint_id=f"{mallory}/{n}/{'z' * 7_000}", warmth="w" * 7_000)
            for n in range(1_000)
        ]
        await bad.send(condition=pb.Condition(endpoints=big, valid_s=60.0))
        digests = [
            pb.EndpointPrefixes(endpoint_id=f"{mallory}/{n}/m", model="m" * 200_000, blocks=b"8" * 2048)
            for n in range(64)
        ]
        await bad.send(prefixes=pb.Prefixes(endpoints=digests))
        await until(lambda: bool(good.conditions))
        await good.has(inventory("n"))
        await good.knows("n", 1)
        assert not good.ended
        assert sum(told.ByteSize() for told in good.conditions) < 500_000


async def test_a_route_that_no_transaction_holds_holds_up_no_other(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: the check dropped or moved; the standing route taken away; said at every look, or once only."""
    _, credential = await plane.node("one")
    large = "l" * 120
    with capture_logs() as logs:

        def said() -> list[str]:
            return [line["model"] for line in logs if line["event"] == "route.too_large"]

        async with plane.stream(credential) as end:
            await end.has(inventory("n"))
            await end.knows("n", 1)
            stored = await plane.store.get(keyspace.route(ModelName("n")))
            assert stored is not None
            limit = len(stored.value)
            monkeypatch.setattr(routes, "MOST_BYTES", limit)
            await end.has(inventory("n", "o", large))
            await end.knows("o", 1)
            await end.has(inventory("p", large))
            await end.knows("p", 1)
            await end.knows("o", -1)
            assert end.ready(large) == -1
            assert said() == [large]
            monkeypatch.setattr(routes, "MOST_BYTES", 10 * limit)
            await end.has(inventory("q", large))
            await end.knows(large, 1)
            monkeypatch.setattr(routes, "MOST_BYTES", limit)
            await end.has(inventory("r", large, state=ModelState.LOADING))
            await until(lambda: "r" in end.table.models)
            assert end.ready(large) == 1, "the one that stands goes on"
            assert said() == [large, large]
