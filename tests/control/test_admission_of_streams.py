"""Connecting sidecars wait in a line, or are told when to come again; renewals wait for nobody.

Mutants that were tried and are killed: a place that is kept after the first table; one that is given back
twice; one that is lost by who gives up waiting, or whose turn it is in the same moment; a refusal without a
time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from controlplane.core.admission import AdmissionPolicy, Line
from controlplane.services import admission as doors
from controlplane.services.admission import Admission, CrowdedError
from sidecar.control.session import WELCOME_S, Call, its_turn
from swarmplane.clock import SystemClock
from swarmplane.ids import NodeId
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.control import Plane, inventory
from tests.fakes.streams import sidecar

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


async def test_who_waits_is_told_how_many_are_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "TOLD_S", 0.01)
    door, told = admission(AdmissionPolicy(places=1, patience_s=0.0)), list[tuple[str, int]]()
    first = await door.place()

    def teller(name: str) -> Callable[[int], Awaitable[None]]:
        async def tell(ahead: int) -> None:
            told.append((name, ahead))

        return tell

    async with asyncio.TaskGroup() as group:
        ada = group.create_task(door.place(teller("ada")))
        bob = group.create_task(door.place(teller("bob")))
        await until(lambda: {("ada", 0), ("bob", 1)} <= set(told))
        with pytest.raises(CrowdedError):
            await door.place()
        first.give_back()
        (await ada).give_back()
        (await bob).give_back()
    assert set(told) <= {("ada", 0), ("bob", 1), ("bob", 0)}


async def test_who_can_no_longer_be_told_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "TOLD_S", 0.01)
    door = admission()
    place = await door.place()

    async def tell(_: int) -> None:
        raise ConnectionError("it went away")

    with pytest.raises(ConnectionError):
        await door.place(tell)
    assert (door.line.inside, door.line.waiting) == (1, 0)
    place.give_back()
    (await door.place()).give_back()


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


async def test_a_sidecar_waits_in_the_line_on_the_stream_that_it_has(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "TOLD_S", 0.01)
    door, told = admission(), list[int]()
    monkeypatch.setattr(plane.control, "admission", door)
    _, credential = await plane.node("ada")
    place = await door.place()
    real = door.place

    async def counted(tell: doors.Tell | None = None) -> doors.Place:
        assert tell is not None, "it says that it understands"
        told.append(1)
        return await real(tell)

    monkeypatch.setattr(door, "place", counted)
    async with sidecar(tmp_path / "a", credential, plane.control_address) as ada:
        await until(lambda: door.line.waiting == 1)
        await asyncio.sleep(0.1)
        assert not ada.stream.connected
        place.give_back()
        await until(lambda: ada.stream.connected)
    assert told == [1], "it came once"


class _Line:
    """A stream on which it is said so often that there is a line, and then Welcome."""

    def __init__(self, words: int) -> None:
        self._messages = [pb.ControlMessage(in_line=pb.InLine(ahead=n)) for n in range(words)]

    async def read(self) -> pb.ControlMessage:
        return self._messages.pop() if self._messages else pb.ControlMessage(welcome=pb.Welcome(session=7))


async def test_each_word_of_a_line_gives_more_time_but_not_for_ever() -> None:
    loop = asyncio.get_running_loop()
    for words, least_s, most_s in ((0, 0.0, 5.5), (3, 5.5, WELCOME_S + 5.0)):
        began_s = loop.time()
        async with asyncio.timeout(5.0) as limit:
            first = await its_turn(cast("Call", _Line(words)), limit)
        assert isinstance(first, pb.ControlMessage)
        assert first.welcome.session == 7
        assert least_s <= (limit.when() or 0.0) - began_s <= most_s


async def test_a_stream_that_finds_the_line_full_is_told_when_to_come_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = admission(AdmissionPolicy(places=1, patience_s=0.0, told_patience_s=0.0))
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
