"""What a node with a certificate, and no good intentions, can do to the others over its stream: nothing."""

from __future__ import annotations

from controlplane.core.loads import MOST_OF_A_NODE
from swarmplane.ids import BackendName
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
