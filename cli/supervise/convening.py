"""Several hosts that start at once on a network: one founds the swarm, the others join it or say how to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from cli.finding import OtherSwarmsError, swarms
from cli.output import say
from swarmplane.advertise import ipv4, this_machine
from swarmplane.discovery.announcement import Announcement
from swarmplane.discovery.mdns import Multicast, Sighting, multicast
from swarmplane.discovery.peers import Peer, judge
from swarmplane.errors import UnavailableError
from swarmplane.ids import random_id

if TYPE_CHECKING:
    from swarmplane.settings.schema import Settings

LISTEN_S: Final = 3.0
"""Announcements of hosts that start at the same moment cross within this."""
FOUNDING_S: Final = 45.0
"""How long another host may take from its first word to a swarm that enrols."""


@contextlib.asynccontextmanager
async def convened(settings: Settings, name: str) -> AsyncIterator[None]:
    """This host founds a swarm inside the block, and others on the network are told that it does.

    Of hosts that begin at the same time, the one with the lowest of their random ids founds.

    Raises:
        OtherSwarmsError: There is a swarm, or another host just founded one.
    """
    interfaces = ipv4(this_machine(settings.node.advertise))
    own = Announcement(random_id(), name)
    async with contextlib.AsyncExitStack() as stack:
        try:
            network = await stack.enter_async_context(multicast(interfaces))
            await network.announce(own, interfaces)
        except UnavailableError as error:
            say(f"warning: {error.message}; another swarm on this network would not be noticed")
            yield
            return
        seen = await network.look(LISTEN_S)
        await _stop_beside(seen)
        before = first_of(own, seen)
        if before is not None:
            await _await_swarm_of(network, before)
        yield


def first_of(own: Announcement, seen: Sequence[Sighting]) -> Announcement | None:
    """The host that founds before this one; None: this one does."""
    founding = [one.announcement for one in seen if one.announcement.founding]
    first = min(founding, key=lambda one: one.node, default=own)
    return first if first.node < own.node else None


async def _stop_beside(seen: Sequence[Sighting]) -> None:
    founded = [one for one in seen if not one.announcement.founding]
    if not founded:
        return
    judged = await judge([Peer(one.announcement, one.addresses, "mdns") for one in founded])
    found = swarms(judged)
    if found:
        raise OtherSwarmsError(found)
    for peer in judged:
        say(f"warning: {peer.announcement.node_name} of swarm {peer.announcement.swarm_name} is on this "
            f"network, but can't be joined: {peer.reason}")  # fmt: skip


async def _await_swarm_of(network: Multicast, before: Announcement) -> None:
    """Wait for the swarm that the host ``before`` founds; where it comes to nothing, this host founds."""
    say(f"{before.node_name} founds a swarm on this network right now; waiting for it …")
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + FOUNDING_S
    while loop.time() < ends_s:
        seen = await network.look(LISTEN_S, _any_swarm)
        await _stop_beside(seen)
        if all(one.announcement.node != before.node for one in seen):
            # Its word ended: either its swarm is told of within a moment, or it gave up.
            await _stop_beside(await network.look(2 * LISTEN_S, _any_swarm))
            break
    say(f"{before.node_name} did not found one; this host does")


def _any_swarm(seen: Sequence[Sighting]) -> bool:
    return any(not one.announcement.founding for one in seen)
