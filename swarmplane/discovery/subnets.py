"""Which addresses a scan asks: pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from swarmplane.errors import InvalidRequestError

MOST_ADDRESSES: Final = 4_096
"""Asked in one scan; what is configured beyond it is an error, not a flood."""
_OWN_PREFIX: Final = 24
"""Of the network around an address of ours, however large it says that it is."""


def around(addresses: Iterable[str]) -> tuple[str, ...]:
    """The /24 networks that hold ``addresses``, private IPv4 ones only."""
    found: dict[str, None] = {}
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if address.version == 4 and address.is_private and not address.is_loopback:  # noqa: PLR2004
            found[str(ipaddress.ip_network(f"{address}/{_OWN_PREFIX}", strict=False))] = None
    return tuple(found)


def hosts_of(networks: Sequence[str], own: Iterable[str] = ()) -> tuple[str, ...]:
    """Every host address of ``networks``, once, without ``own``.

    Raises:
        InvalidRequestError: One is no network, is IPv6, or they hold more than ``MOST_ADDRESSES``.
    """
    skipped: set[str] = set(own)
    found: dict[str, None] = {}
    for text in networks:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise InvalidRequestError(f"{text!r} is no network; write one as 192.168.1.0/24") from None
        if network.version != 4:  # noqa: PLR2004
            raise InvalidRequestError(f"{text}: a network of IPv6 is too large to be scanned")
        if network.num_addresses + len(found) > MOST_ADDRESSES + 2:
            raise InvalidRequestError(
                f"{text}: a scan asks at most {MOST_ADDRESSES:,} addresses; name smaller networks"
            )
        for address in network.hosts():
            if str(address) not in skipped:
                found[str(address)] = None
    return tuple(found)
