"""A host that lost its control plane asks others where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.process.relearning import Relearning, ask_member
from swarmplane.routes import NodeEntry
from tests.fakes.authority import until
from tests.fakes.dataplane import TestSwarm, running_node


class Others:
    """Members and a network, with what they know; notes who was asked and what was found."""

    def __init__(self) -> None:
        self.connected = False
        self.known: tuple[str, ...] = ()
        self.seen: tuple[str, ...] = ()
        self.right = ""
        self.asked: list[str] = []

    async def members(self) -> Sequence[str]:
        self.asked.append("members")
        return self.known

    async def network(self) -> Sequence[str]:
        self.asked.append("network")
        return self.seen

    async def found(self, joins: Sequence[str]) -> bool:
        self.asked.append(f"found {','.join(joins)}")
        return self.right in joins

    def relearning(self, *, scans: bool = True) -> Relearning:
        return Relearning(
            lambda: self.connected,
            self.members,
            self.network if scans else None,
            self.found,
            lost_s=0.05,
            again_s=0.05,
            look_s=0.01,
        )


@pytest.mark.parametrize(
    ("known", "scans", "asked"),
    [
        pytest.param(("a:1",), True, ["members", "found a:1"], id="a-member-knows"),
        pytest.param((), True, ["members", "network", "found a:1"], id="nobody-knows-the-network-has-it"),
        pytest.param(
            ("b:1", "b:1"), True, ["members", "found b:1", "network", "found a:1"], id="a-member-is-wrong"
        ),
        pytest.param((), False, ["members", "members"], id="the-network-may-not-be-looked-at"),
    ],
)
async def test_members_are_asked_first(known: tuple[str, ...], scans: bool, asked: list[str]) -> None:
    others = Others()
    others.known, others.seen, others.right = known, ("a:1",), "a:1"
    running = asyncio.get_running_loop().create_task(others.relearning(scans=scans).run())
    try:
        await until(lambda: len(others.asked) >= len(asked))
    finally:
        running.cancel()
    assert others.asked[: len(asked)] == asked


async def test_nobody_is_asked_while_all_is_well_and_at_once_when_it_is_lost_again() -> None:
    others = Others()
    others.connected = True
    running = asyncio.get_running_loop().create_task(others.relearning().run())
    try:
        await asyncio.sleep(0.15)
        assert others.asked == []
        others.connected = False
        await until(lambda: others.asked[:2] == ["members", "network"])
        others.connected = True
        await asyncio.sleep(0.05)
        others.asked.clear()
        others.connected = False
        await until(lambda: others.asked[:2] == ["members", "network"])
    finally:
        running.cancel()


async def test_a_member_says_where_its_swarm_enrols_and_proves_who_it_is(tmp_path: Path) -> None:
    swarm = TestSwarm(tmp_path)
    async with running_node("a", swarm=swarm) as a, running_node("b", swarm=swarm) as b:
        assert a.tls is not None
        assert b.plane.identity is not None
        told = ("10.0.0.9:11405", "127.0.0.1:11405", "nonsense", "h:11405")
        b.plane.identity = replace(b.plane.identity, join_addresses=lambda: told)
        entry = NodeEntry(b.id, "b", ("127.0.0.1:1", f"127.0.0.1:{b.peer_port}"))
        assert await ask_member(a.tls, entry) == ("10.0.0.9:11405", "h:11405")
        # Whoever answers as somebody else is not listened to.
        assert await ask_member(a.tls, replace(entry, id=a.id)) == ()
