"""Asking every address of a small network, on the swarm's own port alone, whether a member is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import aiohttp

from swarmplane.addresses import Address, parse_address
from swarmplane.discovery.announcement import Announcement
from swarmplane.discovery.mdns import Sighting
from swarmplane.errors import SwarmError
from swarmplane.locating import WELL_KNOWN
from swarmplane.ports import CLIENT_PORT

PARALLEL: Final = 64
ANSWER_S: Final = 1.5
_MOST_BYTES: Final = 65_536
_LONGEST: Final = 200
_OK: Final = 200


async def scan(hosts: Sequence[str], *, port: int = CLIENT_PORT) -> tuple[Sighting, ...]:
    """Members among ``hosts``, by ``GET /.well-known/swarmplane``.

    At most 64 at a time, each 1.5 s: a /24 takes at most 6 s, and nothing else is sent to anybody.
    """
    found: list[Sighting] = []
    waiting = asyncio.Queue[str]()
    for host in hosts:
        waiting.put_nowait(host)

    async def work(session: aiohttp.ClientSession) -> None:
        while not waiting.empty():
            sighting = await _ask(session, Address(waiting.get_nowait(), port))
            if sighting is not None:
                found.append(sighting)

    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(min(PARALLEL, len(hosts))):
            group.create_task(work(session))
    return tuple(sorted(found, key=lambda one: one.addresses))


async def _ask(session: aiohttp.ClientSession, address: Address) -> Sighting | None:
    try:
        async with session.get(f"http://{address}{WELL_KNOWN}", allow_redirects=False) as answer:
            if answer.status != _OK:
                return None
            document: object = json.loads(await answer.content.read(_MOST_BYTES))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    return told(document, address)


def told(document: dict[str, Any], address: Address) -> Sighting | None:
    """What a member at ``address`` says of itself; None where it is in no swarm, or makes no sense."""

    def text(name: str) -> str:
        value = document.get(name)
        return value[:_LONGEST] if isinstance(value, str) and value.isprintable() else ""

    if not (text("swarm") and text("node")):
        return None
    listed = document.get("join")
    announcement = Announcement(
        node=text("node_id") or text("node"),
        node_name=text("node"),
        swarm=text("swarm"),
        swarm_name=text("swarm_name"),
        fingerprint=text("fingerprint"),
        join=tuple(_reachable(listed if isinstance(listed, list) else [], address)),
        client_port=address.port,
        gateway=document.get("gateway") is True,
        version=text("version"),
    )
    return Sighting(announcement, (address.host,))


def _reachable(listed: Sequence[object], member: Address) -> list[str]:
    found = []
    for one in listed[:8]:
        try:
            address = parse_address(str(one))
        except SwarmError:
            continue
        # A founder that knows itself by loopback only is asked where it answered.
        host = member.host if address.loopback or address.unspecified else address.host
        found.append(str(Address(host, address.port)))
    return found
