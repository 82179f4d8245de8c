"""What a node with a certificate, and no good intentions, can do to the others over its stream: nothing."""

from __future__ import annotations

from swarmplane.ids import BackendName
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
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
