"""Connecting sidecars wait in a line, or are told when to come again; renewals wait for nobody.

Mutants that were tried and are killed: a place that is kept after the first table; one that is given back
twice; one that is lost by who gives up waiting, or whose turn it is in the same moment; a refusal without a
time.
"""

from __future__ import annotations

import asyncio

import pytest

from controlplane.core.admission import AdmissionPolicy, Line
from controlplane.services.admission import Admission, CrowdedError
from swarmplane.clock import SystemClock
from swarmplane.ids import NodeId
from tests.fakes.authority import until
from tests.fakes.control import Plane, inventory

NARROW = AdmissionPolicy(places=1, patience_s=1.0)


def admission(policy: AdmissionPolicy = NARROW) -> Admission:
    return Admission(SystemClock(), policy, lambda: 0.0)


async def test_first_come_first_served() -> None:
    door, order = admission(), list[int]()
    first = await door.place()

    async def come(number: int) -> None:
        place = await door.place()
        order.append(number)
        place.give_back()

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(come(number))
        await until(lambda: door.line.waiting == 3)
        assert order == []
        first.give_back()
        first.give_back()
    assert order == [0, 1, 2]
    assert (door.line.inside, door.line.waiting) == (0, 0)


@pytest.mark.parametrize("its_turn", [False, True], ids=["while-it-waits", "when-it-is-its-turn"])
async def test_who_gives_up_leaves_its_place_to_the_next(*, its_turn: bool) -> None:
    door = admission()
    first = await door.place()
    async with asyncio.TaskGroup() as group:
        impatient = group.create_task(door.place())
        patient = group.create_task(door.place())
        await until(lambda: door.line.waiting == 2)
        if its_turn:
            first.give_back()
        impatient.cancel()
        await until(impatient.done)
        assert impatient.cancelled()
        first.give_back()
        (await patient).give_back()
    assert (door.line.inside, door.line.waiting) == (0, 0)


async def test_a_full_line_names_a_time() -> None:
    door = admission(AdmissionPolicy(places=1, patience_s=0.0))
    place = await door.place()
    with pytest.raises(CrowdedError) as refused:
        await door.place()
    assert refused.value.retry_after_s > 0
    place.give_back()
    (await door.place()).give_back()


async def test_a_stream_comes_in_gets_its_table_and_makes_room(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = admission()
    monkeypatch.setattr(plane.control, "admission", door)
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as bob:
        await bob.has(inventory("llama"))
        await ada.knows("llama", 1)
        assert (door.line.inside, door.line.waiting) == (0, 0)
        assert set(plane.control.sessions.open) == {ada.node, bob.node}


async def test_a_stream_that_finds_the_line_full_is_told_when_to_come_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = admission(AdmissionPolicy(places=1, patience_s=0.0))
    monkeypatch.setattr(plane.control, "admission", door)
    node, credential = await plane.node("ada")
    place = await door.place()
    async with plane.stream(credential, welcomed=False) as ada:
        await until(lambda: ada.ended)
        assert ada.last_word is not None
        reject = ada.last_word.reject
        assert (reject.code, reject.retry) == ("saturated", True)
        assert reject.retry_after_s > 0
        assert NodeId(node) not in plane.control.sessions.open
        assert await plane.store.get(f"members/{node}") is None
    place.give_back()
    async with plane.stream(credential) as ada:
        assert NodeId(node) in plane.control.sessions.open
    await until(lambda: door.line == Line(each_s=door.line.each_s, told_until_s=door.line.told_until_s))
