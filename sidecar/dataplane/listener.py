"""What differs between the listeners: who is believed, and what is admitted."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.dataplane.access import Access
from sidecar.dataplane.headers import CLIENT_ACTIONS, PEER_ACTIONS
from sidecar.dataplane.policy import DataPlanePolicy


@dataclass(frozen=True, slots=True)
class Listener:
    """One kind of listening socket."""

    access: Access
    actions: Mapping[bytes, int]
    peer: bool = False


def client_listener(bound: str, policy: DataPlanePolicy) -> Listener:
    """The client listener on the host ``bound``: strict about Host on loopback, about sources on a LAN."""
    address = _parse(bound)
    access = Access(
        loopback=address is not None and address.is_loopback,
        hosts=policy.hosts,
        origins=(*policy.origins, *_ollama_origins()),
        sources=address is not None and address.is_unspecified,
    )
    return Listener(access, dict(CLIENT_ACTIONS))


def peer_listener() -> Listener:
    """The peer listener: certificates decide who speaks there."""
    return Listener(Access(loopback=False), dict(PEER_ACTIONS), peer=True)


def bound_host(sock: socket.socket) -> str:
    """The host a socket is bound to; empty for one that is not on a network."""
    name = sock.getsockname()
    return str(name[0]) if isinstance(name, tuple) else ""


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _ollama_origins() -> tuple[str, ...]:
    return tuple(
        origin.strip() for origin in os.environ.get("OLLAMA_ORIGINS", "").split(",") if origin.strip()
    )
