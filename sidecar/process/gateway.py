"""The URL that a gateway is known by."""

from __future__ import annotations

from collections.abc import Sequence

from swarmplane.addresses import Address, parse_address


def gateway_url(clients: Sequence[Address], advertised: Sequence[str]) -> str:
    """Where clients of other machines ask this host; where none can, where its own do.

    Args:
        clients: Where clients are served, at least one.
        advertised: ``host:port`` that peers are told, most preferred first: its hosts are this machine.
    """
    outside = [one for one in clients if not one.loopback]
    if not outside:
        return f"http://{clients[0]}"
    first = outside[0]
    if not first.unspecified:
        return f"http://{first}"
    hosts = [parse_address(one).host for one in advertised]
    host = next((one for one in hosts if not Address(one, 0).loopback), "127.0.0.1")
    return f"http://{Address(host, first.port)}"
