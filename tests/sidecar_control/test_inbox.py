"""Updates are taken whole or refused whole.

Kills: installing after the first part; keeping parts of a refused update; accepting an older version;
acknowledging a deny list before it is durable; dropping the deny list with a snapshot.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.control.inbox import Inbox, Keeping, Progress
from sidecar.routing.current import CurrentRoutes
from swarmplane.codec.policies import policy_to_pb
from swarmplane.codec.table import update_parts
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId, SubjectId, SwarmId
from swarmplane.policies import Policy
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version, difference
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.clock import FakeClock

OTHER = NodeId("other")


def table(models: int, revision: int, generation: int = 1) -> RouteTable:
    routes = {}
    for number in range(models):
        name = ModelName(f"m{number}")
        endpoint = Endpoint(EndpointId(f"{OTHER}/b/{name}"), OTHER, BackendName("b"), name)
        routes[name] = ModelRoute(name, (endpoint,), revision=revision)
    return RouteTable(
        SwarmId("s"), Version(generation, revision), routes, {OTHER: NodeEntry(OTHER, "other", ("h:1",))}
    )


class Desk:
    """An inbox, and what it said."""

    def __init__(self) -> None:
        self.routes = CurrentRoutes(NodeId("me"))
        self.said: list[pb.SidecarMessage] = []
        self.kept: list[RouteTable] = []
        self.durable: list[RouteTable] = []
        self.disk_full = False
        self.progress = Progress()
        self.connect()

    def connect(self) -> None:
        """A session begins."""
        keeping = Keeping(self.kept.append, self._durably, str)
        self.inbox = Inbox(self.routes, keeping, self.progress, FakeClock(), self.said.append)

    async def _durably(self, one: RouteTable) -> None:
        assert not self.said, "not acknowledged yet"
        if self.disk_full:
            raise OSError(28, "No space left on device")
        self.durable.append(one)

    async def take(self, *updates: pb.RouteUpdate) -> None:
        for update in updates:
            await self.inbox.take(pb.ControlMessage(route_update=update))

    @property
    def models(self) -> set[str]:
        return set(self.routes.view.table.models)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_snapshot_in_parts_is_installed_after_its_last_part(desk: Desk) -> None:
    parts = list(update_parts(table(400, 7), 3, part_bytes=4096))
    assert len(parts) > 3
    await desk.take(*parts[:-1])
    assert not desk.models
    assert not desk.said
    await desk.take(parts[-1])
    assert len(desk.models) == 400
    assert desk.said[0].ack.nonce == 3
    assert desk.said[0].ack.version.revision == 7
    assert desk.kept == [desk.routes.view.table]
    assert not desk.routes.view.stale


async def test_a_delta_changes_what_it_names(desk: Desk) -> None:
    old, new = table(3, 7), table(2, 9)
    await desk.take(*update_parts(old, 1))
    await desk.take(*update_parts(difference(old, new), 2))
    assert desk.models == {"m0", "m1"}
    assert desk.routes.view.table.version == Version(1, 9)


async def test_an_older_version_is_refused_and_the_good_one_stays(desk: Desk) -> None:
    await desk.take(*update_parts(table(3, 7), 1))
    await desk.take(*update_parts(table(1, 6), 2))
    assert len(desk.models) == 3
    assert desk.said[-1].nack.nonce == 2
    assert desk.said[-1].nack.version.revision == 7, "what stays in use"
    assert "older" in desk.progress.nack_reason
    await desk.take(*update_parts(table(2, 8), 3))
    assert len(desk.models) == 2, "the next good one is taken"


async def test_another_generation_is_taken_as_a_snapshot_only(desk: Desk) -> None:
    await desk.take(*update_parts(table(3, 70), 1))
    changed = replace(difference(table(3, 70), table(1, 71)), version=Version(2, 1))
    await desk.take(*update_parts(changed, 2))
    assert desk.said[-1].HasField("nack")
    await desk.take(*update_parts(table(1, 1, generation=2), 3))
    assert desk.routes.view.table.version == Version(2, 1)


async def test_nothing_of_a_refused_update_is_left(desk: Desk) -> None:
    bad = pb.RouteUpdate(nonce=1, snapshot=True, more=True)
    bad.models.add(name="ghost")
    broken = pb.RouteUpdate(nonce=1, snapshot=True)
    broken.models.add(name="")
    await desk.take(bad, broken)
    assert desk.said[-1].HasField("nack")
    await desk.take(*update_parts(table(1, 5), 2))
    assert desk.models == {"m0"}


async def test_denied_subjects_hold_at_once_and_are_durable_before_they_are_acknowledged(desk: Desk) -> None:
    policy = Policy(Version(1, 4), frozenset({SubjectId("bad")}), "least_load")
    await desk.inbox.take(pb.ControlMessage(policy_update=policy_to_pb(policy, 5)))
    assert desk.routes.view.table.denied == {"bad"}
    assert [one.denied for one in desk.durable] == [{"bad"}]
    assert desk.said[-1].ack.nonce == 5
    desk.said.clear()
    await desk.take(*update_parts(table(1, 5), 6))
    assert desk.routes.view.table.denied == {"bad"}, "a snapshot of routes leaves policy alone"


async def test_a_full_disk_is_told_and_the_denial_still_holds(desk: Desk) -> None:
    desk.disk_full = True
    policy = Policy(Version(1, 4), frozenset({SubjectId("bad")}), "")
    await desk.inbox.take(pb.ControlMessage(policy_update=policy_to_pb(policy, 5)))
    assert desk.routes.view.table.denied == {"bad"}
    assert "disk" in desk.said[-1].nack.reason


async def test_what_a_full_disk_did_not_take_is_kept_before_anything_later_is_acknowledged(
    desk: Desk,
) -> None:
    """Kills: a later update, or one of a later session, is acknowledged while the disk holds no denial."""
    desk.disk_full = True
    for nonce in (5, 6):
        desk.connect()
        policy = Policy(Version(1, nonce), frozenset({SubjectId("bad")}), "")
        await desk.inbox.take(pb.ControlMessage(policy_update=policy_to_pb(policy, nonce)))
        assert desk.said.pop().nack.nonce == nonce
    desk.disk_full = False
    policy = Policy(Version(1, 7), frozenset({SubjectId("bad")}), "")
    await desk.inbox.take(pb.ControlMessage(policy_update=policy_to_pb(policy, 7)))
    assert desk.said.pop().ack.nonce == 7
    assert [one.denied for one in desk.durable] == [{"bad"}]


async def test_messages_of_another_age_are_ignored(desk: Desk) -> None:
    await desk.inbox.take(pb.ControlMessage())
    assert not desk.said
