"""Telling and hearing over multicast DNS on the loopback interface."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sidecar.process.presence import Presence
from swarmplane.discovery.announcement import Announcement
from swarmplane.discovery.mdns import multicast
from swarmplane.errors import UnavailableError
from swarmplane.ids import random_id

LOOPBACK = ("127.0.0.1",)


def _host(name: str) -> Announcement:
    # Others may test on this machine too: only hosts of this run are looked at.
    return Announcement(f"{name}{random_id()}", name, "s1", "home", "f" * 52, ("192.168.7.1:11405",), 11400)


async def test_who_tells_is_heard_and_what_changed_is_told_anew() -> None:
    desk = _host("desk")
    async with multicast(LOOPBACK) as teller, multicast(LOOPBACK) as listener:
        await teller.announce(desk, LOOPBACK)
        mine = lambda seen: any(one.announcement.node == desk.node for one in seen)  # noqa: E731
        found = {one.announcement.node: one for one in await listener.look(20, mine)}
        assert found[desk.node].announcement == desk
        assert found[desk.node].addresses == LOOPBACK
        changed = replace(desk, gateway=True)
        await teller.announce(changed, LOOPBACK)
        async with asyncio.timeout(20):
            while True:
                found = {one.announcement.node: one for one in await listener.look(1)}
                if found[desk.node].announcement == changed:
                    break


async def test_a_machine_without_a_network_says_so() -> None:
    with pytest.raises(UnavailableError, match="no network"):
        async with multicast(()):
            pytest.fail("there was none")


async def test_a_host_that_lost_its_swarm_asks_members_where_it_is() -> None:
    own = _host("desk")
    member = replace(_host("shelf"), fingerprint=own.fingerprint, join=("192.168.7.9:11405",))
    stranger = replace(_host("other"), fingerprint="g" * 52, join=("192.168.7.66:11405",))
    asked = asyncio.Queue[tuple[str, ...]]()

    async def found(joins: object) -> None:
        assert isinstance(joins, tuple)
        asked.put_nowait(joins)

    presence = Presence(lambda: own, lambda: LOOPBACK, lambda: False, found, look_s=0.05, lost_s=0.1)
    async with multicast(LOOPBACK) as others, multicast(LOOPBACK) as more, asyncio.TaskGroup() as group:
        await others.announce(member, LOOPBACK)
        await more.announce(stranger, LOOPBACK)
        running = group.create_task(presence.run())
        async with asyncio.timeout(30):
            joins = await asked.get()
        running.cancel()
    assert "192.168.7.9:11405" in joins
    assert "192.168.7.66:11405" not in joins
