"""What an instance writes of silent nodes; the controller goes by it, also when that instance is dead.

Mutants that were tried and are killed: those of the docstrings, a whole lease for what is left of one, and a
membership that stays when its node is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from controlplane.services import keyspace
from controlplane.services.keyspace import DOUBTS, MEMBERS
from controlplane.store.port import Operation
from swarmplane.codec import records
from swarmplane.ids import InstanceId, ModelName, NodeId
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock
from tests.fakes.control import Plane, SidecarEnd, inventory

OTHER = InstanceId("other")
TURN = "turn"


class Written:
    """The keys of each transaction that wrote, and of all that were tried."""

    def __init__(self, plane: Plane, patch: pytest.MonkeyPatch) -> None:
        self.keys: list[list[str]] = []
        self.tried: set[str] = set()
        transact = plane.store.transact

        async def noted(compares: Any, then: Sequence[Operation], **more: Any) -> Any:
            keys = [getattr(operation, "key", "") for operation in then]
            self.tried.update(keys)
            done = await transact(compares, then, **more)
            if done.succeeded and then and keys != [TURN]:
                self.keys.append(keys)
            return done

        patch.setattr(plane.store, "transact", noted)


async def passing(plane: Plane, clock: FakeClock, seconds: float, *beating: SidecarEnd) -> None:
    """Time goes on; those ``beating`` are heard."""
    for _ in range(round(seconds * 4)):
        for end in beating:
            await end.beat()
            await until(lambda end=end: plane.control.sessions.silent_s(end.node) == 0)  # type: ignore[misc]
        await clock.advance(0.25)
        # Behind whatever was written meanwhile.
        await plane.control.mirror.reached(await plane.store.put(TURN, b""))


def gone(plane: Plane, node: NodeId) -> bool:
    return records.parse(records.Node, plane.control.mirror.below(keyspace.NODES)[node].value).gone


def written_of(plane: Plane, instance: InstanceId) -> records.Doubts | None:
    kv = plane.control.mirror.below(DOUBTS).get(instance)
    return None if kv is None else records.parse(records.Doubts, kv.value)


def own(plane: Plane) -> InstanceId:
    (listed,) = plane.control.mirror.below(keyspace.INSTANCES)
    return InstanceId(listed)


async def test_a_silence_is_written_once_and_the_removal_and_its_routes_are_two_more(
    still_plane: Plane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: written at every look; the doubt left behind; the end of the membership written for itself."""
    plane = still_plane
    _, a_credential = await plane.node("ada")
    bob, b_credential = await plane.node("bob")
    async with (
        plane.stream(a_credential) as ada,
        plane.stream(b_credential, first=inventory("llama")) as end,
    ):
        await clock.pass_until(lambda: ada.ready("llama") == 1, within_s=2)
        await passing(plane, clock, 0.25, ada, end)
        written = Written(plane, monkeypatch)
        await passing(plane, clock, 7.0, ada)
        assert written.keys == [[keyspace.doubts(own(plane))]]
        record = written_of(plane, own(plane))
        assert record is not None
        assert [one.node_id for one in record.nodes] == [bob]
        assert 5.0 < record.nodes[0].left_s <= 6.5
        await passing(plane, clock, 2.5, ada)
        assert not gone(plane, bob)
        await clock.pass_until(lambda: gone(plane, bob), within_s=1.5)
        await clock.pass_until(lambda: ada.ready("llama") == 0, within_s=2)
    removal = [keyspace.node(bob), keyspace.member(bob), keyspace.doubts(own(plane))]
    assert written.keys[1:3] == [removal, [keyspace.route(ModelName("llama"))]]


async def test_who_is_heard_again_is_taken_back_and_stays(still_plane: Plane, clock: FakeClock) -> None:
    """Kills: never taken back; its first doubt counted on when it falls silent again."""
    plane = still_plane
    _, a_credential = await plane.node("ada")
    bob, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as end:
        await passing(plane, clock, 9.0, ada)
        assert written_of(plane, own(plane)) is not None
        await passing(plane, clock, 0.5, ada, end)
        await clock.pass_until(lambda: written_of(plane, own(plane)) is None, within_s=2)
        await passing(plane, clock, 7.5, ada)
        assert not gone(plane, bob)
        assert bob in plane.control.mirror.below(MEMBERS)
        await clock.pass_until(lambda: gone(plane, bob), within_s=3.5)


async def test_when_removals_are_held_the_membership_ends_all_the_same(
    still_plane: Plane, clock: FakeClock
) -> None:
    """Kills: a membership without an end; a removal in spite of the hold."""
    plane = still_plane
    _, a_credential = await plane.node("ada")
    bob, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential):
        await passing(plane, clock, 1.0, ada)
        plane.control.leadership.outages += 1
        await passing(plane, clock, 9.5, ada)
        assert bob in plane.control.mirror.below(MEMBERS)
        await clock.pass_until(lambda: bob not in plane.control.mirror.below(MEMBERS), within_s=2.5)
        assert not gone(plane, bob)
        assert written_of(plane, own(plane)) is None


async def elsewhere(plane: Plane, node: NodeId, left_s: float) -> int:
    """``node`` is connected to another instance, which does not hear it; the revision of its membership."""
    await plane.store.put(keyspace.instance(OTHER), records.Instance(id=OTHER).SerializeToString())
    member = records.Member(incarnation="one", instance_id=OTHER)
    session = await plane.store.put(keyspace.member(node), member.SerializeToString())
    doubt = records.Doubt(node_id=node, session=session, left_s=left_s)
    await plane.store.put(keyspace.doubts(OTHER), records.Doubts(nodes=[doubt]).SerializeToString())
    await plane.control.mirror.reached(await plane.store.revision())
    return session


@pytest.fixture
async def bob(still_plane: Plane, clock: FakeClock) -> NodeId:
    """A node that was here, and says so no longer."""
    bob, credential = await still_plane.node("bob")
    async with still_plane.stream(credential, incarnation="one") as end:
        await passing(still_plane, clock, 0.5, end)
        still_plane.control.sessions.open[bob].left = True
    await until(lambda: bob not in still_plane.control.sessions.open)
    return bob


async def test_what_a_dead_instance_wrote_comes_true(
    still_plane: Plane, clock: FakeClock, bob: NodeId
) -> None:
    """Kills: only own doubts counted; those of an instance that is not listed any more left out."""
    plane = still_plane
    await elsewhere(plane, bob, 6.0)
    await plane.store.delete(keyspace.instance(OTHER))
    await passing(plane, clock, 1.0)
    assert bob in plane.control.membership.suspects, "though nobody is there to say so"
    await passing(plane, clock, 4.5)
    assert not gone(plane, bob)
    await clock.pass_until(lambda: gone(plane, bob), within_s=1.5)
    assert bob not in plane.control.mirror.below(MEMBERS)
    assert written_of(plane, OTHER) is None


async def test_what_was_said_of_an_earlier_session_is_void(
    still_plane: Plane, clock: FakeClock, bob: NodeId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: doubts that go by the node alone; records that say nothing any more kept, or those of the living
    taken away."""
    plane = still_plane
    await elsewhere(plane, bob, 3.0)
    member = records.Member(incarnation="one", instance_id=OTHER)
    await plane.store.put(keyspace.member(bob), member.SerializeToString())
    written = Written(plane, monkeypatch)
    await passing(plane, clock, 5.0)
    assert keyspace.node(bob) not in written.tried
    assert bob not in plane.control.membership.suspects
    assert written_of(plane, OTHER) is not None
    await plane.store.delete(keyspace.instance(OTHER))
    await clock.pass_until(lambda: written_of(plane, OTHER) is None, within_s=3)
    assert not gone(plane, bob)


@pytest.mark.parametrize("happens", ["taken-back", "connected-again"])
async def test_what_is_taken_back_in_the_last_moment_is_not_decided(
    still_plane: Plane, clock: FakeClock, bob: NodeId, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    """Kills: a removal without the condition that the doubt stands, or that the session does."""
    plane = still_plane
    await elsewhere(plane, bob, 2.0)
    transact, late = plane.store.transact, True

    async def overtaken(compares: Any, then: Sequence[Operation], **more: Any) -> Any:
        nonlocal late
        if late and keyspace.node(bob) in [getattr(operation, "key", "") for operation in then]:
            late = False
            if happens == "taken-back":
                await plane.store.delete(keyspace.doubts(OTHER))
            else:
                member = records.Member(incarnation="one", instance_id=OTHER)
                await plane.store.put(keyspace.member(bob), member.SerializeToString())
        return await transact(compares, then, **more)

    monkeypatch.setattr(plane.store, "transact", overtaken)
    await passing(plane, clock, 4.0)
    assert not late, "it was tried"
    assert not gone(plane, bob)
    assert bob in plane.control.mirror.below(MEMBERS)


async def test_others_in_the_same_record_keep_their_time(
    still_plane: Plane, clock: FakeClock, bob: NodeId
) -> None:
    """Kills: their countdown begun anew, or ended with the first."""
    plane = still_plane
    names = [(await plane.node(name))[0] for name in ("cleo", "dora", "ed", "flo", "gus", "hal")]
    session = await elsewhere(plane, bob, 2.0)
    member = records.Member(incarnation="one", instance_id=OTHER)
    others = [await plane.store.put(keyspace.member(node), member.SerializeToString()) for node in names]
    for node in names:
        record = records.parse(records.Node, plane.control.mirror.below(keyspace.NODES)[node].value)
        record.incarnation = "one"
        await plane.store.put(keyspace.node(node), record.SerializeToString())
    told = records.Doubts(
        nodes=[
            records.Doubt(node_id=bob, session=session, left_s=2.0),
            records.Doubt(node_id=names[0], session=others[0], left_s=4.0),
        ]
    )
    await plane.store.put(keyspace.doubts(OTHER), told.SerializeToString())
    began_s = clock.now_s()
    await clock.pass_until(lambda: gone(plane, bob), within_s=3)
    await passing(plane, clock, began_s + 3.75 - clock.now_s())
    assert not gone(plane, names[0])
    await clock.pass_until(lambda: gone(plane, names[0]), within_s=1.5)
    assert not any(gone(plane, node) for node in names[1:])
