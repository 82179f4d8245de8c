"""This host on the local network: told of by mDNS, and its swarm found again where it has moved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from sidecar.process.relearning import follow
from swarmplane.addresses import Address, parse_address
from swarmplane.advertise import ipv4, this_machine
from swarmplane.datadir import DataDir
from swarmplane.discovery.announcement import Announcement
from swarmplane.discovery.mdns import Multicast, multicast
from swarmplane.errors import SwarmError, UnavailableError
from swarmplane.settings.schema import Settings

if TYPE_CHECKING:
    from sidecar.process.membership import Membership

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK_S: Final = 10.0
"""Between two looks whether what is told is still true."""
LOST_S: Final = 10.0
"""Without the control plane for so long, a host looks where its swarm is now."""
SEARCH_S: Final = 4.0
SEARCH_EVERY_S: Final = 20.0


class Presence:
    """Tells of this host while others can reach it, and searches for a control plane that moved.

    Args:
        describe: This host as it is now; None while no other machine can reach it.
        interfaces: IPv4 addresses of the interfaces it is told on.
        connected: Whether the control plane is reached now.
        found: Takes addresses at which members of this swarm say that it enrols; they prove nothing yet.
        look_s: Between two looks.
        lost_s: Without the control plane for so long, the search begins.
    """

    def __init__(
        self,
        describe: Callable[[], Announcement | None],
        interfaces: Callable[[], tuple[str, ...]],
        connected: Callable[[], bool],
        found: Callable[[Sequence[str]], Awaitable[None]],
        *,
        look_s: float = LOOK_S,
        lost_s: float = LOST_S,
    ) -> None:
        self._describe = describe
        self._interfaces = interfaces
        self._connected = connected
        self._found = found
        self._look_s = look_s
        self._lost_s = lost_s
        self._trouble = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            interfaces = await asyncio.to_thread(self._interfaces)
            if interfaces:
                try:
                    async with multicast(interfaces) as network:
                        self._mended()
                        await self._stay(network, interfaces)
                except UnavailableError as error:
                    self._troubled(error)
            await asyncio.sleep(self._look_s)

    async def _stay(self, network: Multicast, interfaces: tuple[str, ...]) -> None:
        """Tell and search on one network, until this machine is on another."""
        told: Announcement | None = None
        now_s = asyncio.get_running_loop().time
        searched_s, reached_s = float("-inf"), now_s()
        while interfaces == await asyncio.to_thread(self._interfaces):
            wanted = self._describe()
            if wanted is None:
                await network.withdraw()
            elif wanted != told:
                await network.announce(wanted, interfaces)
                log.info("mdns.told", name=wanted.label, join=list(wanted.join), on=list(interfaces))
            told = wanted
            if self._connected():
                reached_s = now_s()
            elif now_s() - reached_s > self._lost_s and now_s() - searched_s > SEARCH_EVERY_S:
                searched_s = now_s()
                await self._search(network)
            await asyncio.sleep(self._look_s)

    async def _search(self, network: Multicast) -> None:
        own = self._describe()
        if own is None:
            return
        seen = await network.look(SEARCH_S)
        joins = [
            address
            for one in seen
            if one.announcement.fingerprint == own.fingerprint and one.announcement.node != own.node
            for address in one.announcement.join
        ]
        if joins:
            try:
                await self._found(tuple(dict.fromkeys(joins)))
            except (SwarmError, OSError) as error:
                log.warning("swarm.not_found_again", reason=str(error))

    def _troubled(self, error: UnavailableError) -> None:
        if self._trouble != error.message:
            self._trouble = error.message
            log.warning("mdns.unavailable", reason=error.message)

    def _mended(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("mdns.available")


@dataclass(frozen=True, slots=True)
class Told:
    """What of this host does not change while it runs, and where the rest is known."""

    client: tuple[Address, ...]
    """Where clients are served."""
    gateway: Callable[[], bool]
    """Whether it is meant as the URL for clients; may change."""
    join_listener: Address
    version: str


def announcement(
    membership: Membership, told: Told, peer: Sequence[str], own: Sequence[str]
) -> Announcement | None:
    """This host for the local network; None where no other machine can reach it.

    Args:
        membership: Of the host.
        told: What does not change, and where the rest is known.
        peer: ``host:port`` that peers are told.
        own: Addresses of this machine.
    """
    if all(parse_address(one).loopback for one in peer):
        return None
    identity = membership.identity
    outside = [one.port for one in told.client if not one.loopback]
    return Announcement(
        node=identity.node_id,
        node_name=identity.node_name,
        swarm=identity.swarm_id,
        swarm_name=identity.swarm_name,
        fingerprint=identity.fingerprint,
        join=_from_outside(identity.join_addresses(), told, own),
        client_port=outside[0] if outside else 0,
        gateway=told.gateway(),
        version=told.version,
    )


def _from_outside(join: Sequence[str], told: Told, own: Sequence[str]) -> tuple[str, ...]:
    """``join`` as other machines reach it: an instance on this one is told by this machine's addresses."""
    found: list[str] = []
    for text in join:
        address = parse_address(text)
        if not address.loopback:
            found.append(text)
        elif not told.join_listener.loopback:
            found += [str(Address(host, address.port)) for host in own]
    return tuple(dict.fromkeys(found))


def presence_of(settings: Settings, membership: Membership, data_dir: DataDir, told: Told,
                peer: Callable[[], Sequence[str]]) -> Presence:  # fmt: skip
    """What tells of the host of ``membership``, and keeps what a search finds for its control stream."""

    def describe() -> Announcement | None:
        return announcement(membership, told, peer(), this_machine(settings.node.advertise))

    def interfaces() -> tuple[str, ...]:
        return ipv4(this_machine())

    async def found(joins: Sequence[str]) -> None:
        await follow(data_dir, joins)

    return Presence(describe, interfaces, lambda: membership.control.connected, found)
