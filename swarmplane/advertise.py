"""Which addresses of this machine others are told."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_TAILNET_V4: Final = ipaddress.ip_network("100.64.0.0/10")
_TAILNET_V6: Final = ipaddress.ip_network("fd7a:115c:a1e0::/48")
# Bridges and container links: reachable from this machine alone, whatever their addresses look like.
_BRIDGE: Final = re.compile(
    r"(docker|br-|virbr|lxcbr|lxdbr|cni|flannel|cali|veth|podman|vmnet|vboxnet|bridge|vEthernet|"
    r"kube-|nerdctl|waydroid|incusbr|vnet)"
)
# Nothing is sent: connecting a datagram socket only asks the kernel for a route. Documentation networks.
_PROBES: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface and its addresses (as text, IPv6 zones allowed)."""

    name: str
    addresses: tuple[str, ...]
    up: bool = True


def advertised(
    asked: Sequence[str], interfaces: Iterable[Interface], default_routes: Iterable[str]
) -> tuple[str, ...]:
    """Hosts to tell others, most preferred first: ``asked``, else default-route addresses, then a tailnet's.

    Never loopback, bridges or link-local; so it may be empty, on a machine without a network. Where there
    is neither a default route nor a tailnet, every other usable address counts.

    Args:
        asked: ``--advertise`` values, taken as they are.
        interfaces: What the machine has.
        default_routes: Source addresses the kernel picks for the default routes.
    """
    if asked:
        return tuple(dict.fromkeys(asked))
    usable = {
        address for one in interfaces if one.up and not _BRIDGE.match(one.name) for address in _usable(one)
    }
    # The default route is trusted whatever its interface is called: hosts of virtual machines have it on a
    # bridge of their own.
    routed = [address for address in map(_parsed, default_routes) if address and _reachable(address)]
    tailnet = sorted(filter(_in_tailnet, usable), key=_order)
    chosen = [*routed, *tailnet] or sorted(usable, key=_order)
    return tuple(str(address) for address in dict.fromkeys(chosen))


def this_machine(asked: Sequence[str] = ()) -> tuple[str, ...]:
    """:func:`advertised` for the machine we run on."""
    return tuple(asked) or advertised((), machine_interfaces(), default_route_sources())


def ipv4(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of ``addresses`` that are no IPv6."""
    return tuple(one for one in addresses if ":" not in one)


def machine_interfaces() -> tuple[Interface, ...]:
    """The interfaces of this machine."""
    import psutil

    states = psutil.net_if_stats()
    return tuple(
        Interface(
            name,
            tuple(one.address for one in found if one.family in {socket.AF_INET, socket.AF_INET6}),
            up=states[name].isup if name in states else True,
        )
        for name, found in psutil.net_if_addrs().items()
    )


def default_route_sources() -> tuple[str, ...]:
    """Source addresses of the default routes, IPv4 first; empty without one."""
    sources = []
    for family, target in _PROBES:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                sources.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return tuple(sources)


def _usable(interface: Interface) -> Iterable[IPAddress]:
    addresses = map(_parsed, interface.addresses)
    return (address for address in addresses if address and _reachable(address))


def _reachable(address: IPAddress) -> bool:
    return not (
        address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    )


def _parsed(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _in_tailnet(address: IPAddress) -> bool:
    return address in (_TAILNET_V4 if address.version == 4 else _TAILNET_V6)  # noqa: PLR2004


def _order(address: IPAddress) -> tuple[int, int]:
    return address.version, int(address)
