"""A host whose control plane is nowhere that it knows: other members, and the own network, are asked.

What they say proves nothing: the swarm's authority does, at the address that they name.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from sidecar.dataplane.peer_tls import PeerTls
from swarmplane.addresses import parse_address
from swarmplane.advertise import this_machine
from swarmplane.credentials.files import load_credential
from swarmplane.datadir import DataDir
from swarmplane.discovery.scan import scan
from swarmplane.discovery.subnets import around, hosts_of
from swarmplane.enrollment import Found, find_own
from swarmplane.errors import InvalidRequestError, SwarmError
from swarmplane.identity import read_record, write_record
from swarmplane.locating import WELL_KNOWN
from swarmplane.routes import NodeEntry, RouteTable

if TYPE_CHECKING:
    from sidecar.process.membership import Membership
    from swarmplane.settings.schema import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK_S: Final = 2.0
LOST_S: Final = 6.0
"""Without the control plane for so long, others are asked: a restart takes less."""
AGAIN_S: Final = 20.0
"""Between two rounds of questions to members."""
SCAN_AGAIN_S: Final = 60.0
"""Between two questions to a whole network, in the end; the first ones come as often as those to members."""
NEIGHBOURS: Final = 8
"""Members asked in one round, chosen by chance."""
ANSWER_S: Final = 3.0
_NEVER: Final = float("-inf")
_MOST_BYTES: Final = 65_536
_MOST_ADDRESSES: Final = 8

Ask = Callable[[], Awaitable[Sequence[str]]]
"""``host:port`` of enrolment listeners that others know of; never raises."""


class Relearning:
    """Asks around while the control plane is lost.

    Args:
        connected: Whether it is reached now.
        members: Asks members that are known.
        network: Asks the own network, more seldom and only where members knew nothing; None: never.
        found: Takes what they said.
        lost_s: Without the control plane for so long, the first round begins.
        again_s: Between two rounds.
        look_s: Between two looks at ``connected``.
    """

    def __init__(
        self,
        connected: Callable[[], bool],
        members: Ask,
        network: Ask | None,
        found: Callable[[Sequence[str]], Awaitable[bool]],
        *,
        lost_s: float = LOST_S,
        again_s: float = AGAIN_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._connected = connected
        self._members = members
        self._network = network
        self._found = found
        self._lost_s = lost_s
        self._again_s = again_s
        self._look_s = look_s

    async def run(self) -> None:
        """Until cancelled."""
        now_s = asyncio.get_running_loop().time
        reached_s, asked_s, scan_at_s, pause_s = now_s(), _NEVER, _NEVER, self._again_s
        while True:
            await asyncio.sleep(self._look_s)
            if self._connected():
                # Another loss is another move: what was found out before says nothing of it.
                reached_s, asked_s, scan_at_s, pause_s = now_s(), _NEVER, _NEVER, self._again_s
                continue
            if now_s() - reached_s < self._lost_s or now_s() - asked_s < self._again_s:
                continue
            asked_s = now_s()
            if await self._told(self._members) or self._connected() or self._network is None:
                continue
            if now_s() >= scan_at_s:
                scan_at_s, pause_s = now_s() + pause_s, min(pause_s * 2.0, SCAN_AGAIN_S)
                await self._told(self._network)

    async def _told(self, ask: Ask) -> bool:
        """Whether somebody named an address at which this swarm is."""
        joins = await ask()
        log.info("swarm.asked_for", network=ask is self._network, told=len(joins))
        return bool(joins) and await self._found(tuple(dict.fromkeys(joins)))


def relearning_of(
    settings: Settings, membership: Membership, table: Callable[[], RouteTable], data_dir: DataDir
) -> Relearning:
    """What asks around for the host of ``membership``; the network only where it may be looked at."""
    own = membership.identity

    async def members() -> Sequence[str]:
        entries = [one for key, one in table().nodes.items() if key != own.node_id and one.peer_addresses]
        chosen = random.sample(entries, min(len(entries), NEIGHBOURS))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask_member(membership.tls, one)) for one in chosen]
        return [address for task in asked for address in task.result()]

    async def network() -> Sequence[str]:
        networks = settings.discovery.subnets or around(await asyncio.to_thread(this_machine))
        seen = await scan(hosts_of(networks, set()))
        told = [one.announcement for one in seen]
        return [
            address
            for one in told
            if one.fingerprint == own.fingerprint and one.node != own.node_id
            for address in one.join
        ]

    async def found(joins: Sequence[str]) -> bool:
        try:
            return await follow(data_dir, joins)
        except (SwarmError, OSError) as error:
            log.warning("swarm.not_found_again", reason=str(error))
            return False

    return Relearning(
        lambda: membership.control.connected, members, network if settings.discovery.mdns else None, found
    )


async def ask_member(tls: PeerTls, entry: NodeEntry) -> tuple[str, ...]:
    """Where the member of ``entry`` knows that its swarm enrols; empty where it does not answer in 3 s."""
    for text in entry.peer_addresses:
        try:
            async with asyncio.timeout(ANSWER_S):
                document = await _well_known(tls, entry, text)
        except (OSError, SwarmError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # OSError covers time-outs and TLS.
            continue
        listed = document.get("join")
        return _addresses(listed if isinstance(listed, list) else [])
    return ()


async def _well_known(tls: PeerTls, entry: NodeEntry, text: str) -> Mapping[str, object]:
    address = parse_address(text)
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=tls.client_context, server_hostname=tls.server_name(entry.id)
    )
    try:
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        tls.called(connection, entry.id)
        writer.write(b"GET %b HTTP/1.1\r\nhost: member\r\nconnection: close\r\n\r\n" % WELL_KNOWN.encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ValueError("it does not say")
        body = b""
        while len(body) < _MOST_BYTES and (piece := await reader.read(_MOST_BYTES)):
            body += piece
    finally:
        writer.close()
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("it says something else")  # noqa: TRY004 - as all that can't be read
    return document


def _addresses(listed: Sequence[object]) -> tuple[str, ...]:
    """Those that other hosts can reach: a founder's own loopback means nothing here."""
    found = []
    for one in listed[:_MOST_ADDRESSES]:
        try:
            address = parse_address(str(one))
        except InvalidRequestError:
            continue
        if not (address.loopback or address.unspecified):
            found.append(str(address))
    return tuple(found)


async def follow(data_dir: DataDir, joins: Sequence[str]) -> bool:
    """Keep the first of ``joins`` that proves to be of this node's swarm; its control stream reads it soon.

    All are asked at once: most of them are places that the swarm has left, which answer nothing for seconds.
    Whether there is a node here.

    Raises:
        SwarmError: None of them does.
    """
    record = await asyncio.to_thread(read_record, data_dir)
    if record is None or not joins:
        return False
    ca_pem = (await asyncio.to_thread(load_credential, data_dir.node)).ca_pem
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_proven(join, ca_pem)) for join in joins[:_MOST_ADDRESSES]]
    answers = [task.result() for task in asked]
    found = next((one for one in answers if isinstance(one, Found)), None)
    if found is None:
        raise next(one for one in answers if isinstance(one, SwarmError))
    known = record.pointed_at(found.control, found.join)
    if known != record:
        await asyncio.to_thread(write_record, data_dir, known)
        log.info("swarm.found_again", at=found.join)
    return True


async def _proven(join: str, ca_pem: bytes) -> Found | SwarmError:
    try:
        return await find_own(join, ca_pem)
    except SwarmError as error:
        return error
