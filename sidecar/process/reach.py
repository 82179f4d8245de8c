"""Where the peer listener is bound, and what others are told of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarmplane.addresses import Address, parse_address
from swarmplane.advertise import this_machine

LOOPBACK: Final = "127.0.0.1"
_LOOKUP_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Reach:
    """``bind`` is where to listen; ``hosts`` are told to others, most preferred first."""

    bind: Address
    hosts: tuple[str, ...]

    def advertised(self, port: int) -> tuple[str, ...]:
        """``host:port`` for every host, once the port is known."""
        return tuple(str(Address(host, port)) for host in self.hosts)


def choose_reach(
    *,
    listen: Address | None,
    default_port: int,
    advertise: Sequence[str],
    source: str,
    machine: Sequence[str],
    lan: bool,
) -> Reach:
    """Bind and advertise where other hosts can reach us (INTERFACE "Ports").

    Args:
        listen: ``peer.listen``; None: not set.
        default_port: Without ``listen``.
        advertise: ``node.advertise``; taken as they are, and all interfaces are bound for them.
        source: This machine's address on the way to the control plane; empty: unknown.
        machine: Addresses others may reach this machine at, found out.
        lan: Whether this host means to be reached from outside: then a control plane on this very machine
            does not make the swarm a swarm of one machine.
    """
    alone = bool(source) and Address(source, 0).loopback and not lan
    found = (source,) if source and not Address(source, 0).loopback else tuple(machine)
    hosts = tuple(advertise) or ((LOOPBACK,) if alone else found) or (LOOPBACK,)
    if listen is not None:
        told = hosts if listen.unspecified or advertise else (listen.host,)
        return Reach(listen, told)
    if len(hosts) == 1 and not advertise:
        return Reach(Address(hosts[0], default_port), hosts)
    every = "::" if any(":" in host for host in hosts) else "0.0.0.0"
    return Reach(Address(every, default_port), hosts)


async def find_reach(
    *, listen: Address | None, default_port: int, advertise: Sequence[str], control: Sequence[str], lan: bool
) -> Reach:
    """:func:`choose_reach` for this machine and the control plane at ``control`` (``host:port`` each)."""
    source = await find_source(control)
    return choose_reach(
        listen=listen,
        default_port=default_port,
        advertise=advertise,
        source=source,
        machine=await asyncio.to_thread(this_machine),
        lan=lan,
    )


async def find_source(control: Sequence[str]) -> str:
    """This machine's address on the way to the first of ``control`` that has one; empty: there is no way."""
    for address in control:
        source = await source_towards(parse_address(address))
        if source:
            return source
    return ""


async def source_towards(address: Address) -> str:
    """The local address from which the kernel would reach ``address``; empty if it has no route or no name.

    Nothing is sent: connecting a datagram socket only looks up a route.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_S):
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return ""
    for family, kind, _, _, target in found:
        try:
            with socket.socket(family, kind) as probe:
                probe.connect(target)
                return str(probe.getsockname()[0]).partition("%")[0]
        except OSError:
            continue
    return ""
