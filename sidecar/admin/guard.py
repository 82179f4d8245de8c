"""Who may speak to the admin listener.

It has no credentials: on a loopback bind its callers are this machine's own. A web page is no such caller,
though its browser is: by DNS rebinding or a plain form it could reach the port, so Host and Origin count.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from swarmplane.addresses import parse_address
from swarmplane.errors import InvalidRequestError


def admits_host(value: str, *, own_names: frozenset[str]) -> bool:
    """Whether ``Host: value`` names this machine: an IP literal, ``localhost``, or one of ``own_names``."""
    try:
        name = parse_address(value, default_port=80).host.casefold().rstrip(".")
    except InvalidRequestError:
        return False
    return name == "localhost" or name.endswith(".localhost") or name in own_names or is_address(name)


def admits_origin(value: str) -> bool:
    """Whether a page of ``Origin: value`` may act here: only one that this machine serves itself."""
    host = urlsplit(value).hostname if value.startswith(("http://", "https://")) else None
    return host is not None and (host == "localhost" or host.endswith(".localhost") or is_loopback(host))


def own_names() -> frozenset[str]:
    """Names of this machine, lower case."""
    name = socket.gethostname().casefold()
    return frozenset({name, name.partition(".")[0]} - {""})


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(text: str) -> bool:
    """Whether ``text`` is an IP address that only this machine can use."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
