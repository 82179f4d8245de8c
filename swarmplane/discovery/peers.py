"""Who else is on the local network: by mDNS, by a scan where that finds nobody, by known addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from swarmplane.addresses import Address, parse_address
from swarmplane.advertise import ipv4, machine_interfaces, this_machine
from swarmplane.discovery.announcement import Announcement
from swarmplane.discovery.mdns import Sighting, multicast
from swarmplane.discovery.scan import scan
from swarmplane.discovery.subnets import around, hosts_of
from swarmplane.enrollment import Authority, ask_authority
from swarmplane.errors import SwarmError, UnavailableError
from swarmplane.ports import CLIENT_PORT

LOOK_S: Final = 10.0
"""How long mDNS is listened to before the network is scanned."""
_ASK_S: Final = 6.0
Way = Literal["mdns", "scan", "known"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A host of this or another swarm, and whether its swarm can be reached from here."""

    announcement: Announcement
    addresses: tuple[str, ...]
    found_by: Way
    reachable: bool = False
    reason: str = ""
    """Why not, and what to do; empty where it is."""
    open: bool = False
    """Whether its swarm enrols nodes without a token, as the swarm's authority says."""

    @property
    def url(self) -> str:
        """For clients; empty where it takes none from other machines."""
        port = self.announcement.client_port
        return f"http://{Address(self.addresses[0], port)}" if port and self.addresses else ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where and for how long to look."""

    mdns: bool = True
    scan: Literal["never", "if-nobody", "always"] = "if-nobody"
    subnets: tuple[str, ...] = ()
    """Networks to scan; empty: the /24 around each own address."""
    known: tuple[str, ...] = ()
    """``host:port`` or hosts whose client listeners are asked in any case."""
    within_s: float = LOOK_S


def _never(_seen: Sequence[Sighting]) -> bool:
    return False


async def look_around(
    wanted: Wanted,
    *,
    own_node: str = "",
    enough: Callable[[Sequence[Sighting]], bool] = _never,
    say: Callable[[str], None] = lambda _words: None,
) -> tuple[Peer, ...]:
    """Everybody found, each once, by name.

    Args:
        wanted: Where and for how long.
        own_node: Id of this node, which is no peer.
        enough: Ends the wait for mDNS early.
        say: Takes words for people: what is done now, and what can't be.
    """
    found: dict[str, Peer] = {}

    def keep(sightings: Iterable[Sighting], way: Way) -> None:
        for one in sightings:
            if one.announcement.node not in {own_node, *found}:
                found[one.announcement.node] = Peer(one.announcement, one.addresses, way)

    interfaces = this_machine()
    if wanted.mdns:
        try:
            async with multicast(ipv4(interfaces)) as network:
                keep(await network.look(wanted.within_s, enough), "mdns")
        except UnavailableError as error:
            say(error.message)
    if wanted.scan == "always" or (wanted.scan == "if-nobody" and not found):
        networks = wanted.subnets or around(interfaces)
        if networks:
            say(f"asking every address of {', '.join(networks)} for a member of a swarm")
            keep(await scan(hosts_of(networks, _own_addresses())), "scan")
    keep(await _known(wanted.known), "known")
    checked = await judge(tuple(found.values()))
    return tuple(
        sorted(checked, key=lambda peer: (peer.announcement.swarm_name, peer.announcement.node_name))
    )


async def _known(addresses: Sequence[str]) -> tuple[Sighting, ...]:
    found: list[Sighting] = []
    by_port: dict[int, list[str]] = {}
    for text in addresses:
        address = parse_address(text, default_port=CLIENT_PORT)
        by_port.setdefault(address.port, []).append(address.host)
    for port, hosts in by_port.items():
        found += await scan(hosts, port=port)
    return tuple(found)


async def judge(peers: Sequence[Peer]) -> tuple[Peer, ...]:
    """``peers`` with whether their swarms can be joined from here; every listener is asked once, for 6 s."""
    wanted = {address for peer in peers for address in peer.announcement.join}
    async with asyncio.TaskGroup() as group:
        asked = {address: group.create_task(_ask(address)) for address in wanted}
    answers = {address: task.result() for address, task in asked.items()}
    return tuple(judged(peer, answers) for peer in peers)


async def _ask(address: str) -> Authority | str:
    """Who enrols there, or why nobody does, for people."""
    try:
        async with asyncio.timeout(_ASK_S):
            return await ask_authority(address)
    except TimeoutError:
        return f"{address} does not answer within {_ASK_S:g} s"
    except SwarmError as error:
        return error.message


def judged(peer: Peer, answers: Mapping[str, Authority | str]) -> Peer:
    """``peer`` with what its swarm's enrolment listeners answered, by address."""
    told = peer.announcement
    if told.founding:
        return replace(peer, reason="it is about to found a swarm")
    if not told.join:
        return replace(peer, reason="its control plane listens on loopback only; start it with --lan")
    reasons = []
    for address in told.join:
        answer = answers[address]
        if isinstance(answer, str):
            reasons.append(answer)
        elif answer.fingerprint != told.fingerprint:
            reasons.append(f"at {address} another swarm answers than it says, {answer.swarm_name!r}")
        else:
            return replace(peer, reachable=True, open=answer.open)
    return replace(peer, reason=reasons[0])


def _own_addresses() -> set[str]:
    return {address for one in machine_interfaces() for address in one.addresses}
