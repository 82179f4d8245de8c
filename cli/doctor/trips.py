"""The way to other hosts of the swarm: a connection to their peer listeners, and a large request on it."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarmplane.addresses import Address, parse_address
from swarmplane.credentials.certificate import read_certificate
from swarmplane.credentials.files import CERTIFICATE
from swarmplane.credentials.names import node_server_name
from swarmplane.credentials.tls import peer_client_context
from swarmplane.errors import SwarmError, reason_of
from swarmplane.ids import NodeId

MOST: Final = 16
CONNECT_S: Final = 2.0
ANSWER_S: Final = 3.0
HANGS: Final = "it takes connections, and answers nothing: its sidecar hangs"
_LARGE: Final = 16 * 1024
_ALERT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Trip:
    """To one host."""

    name: str
    address: str
    """The first that let us in, else the first tried; ``host:port``."""
    seconds: float = 0.0
    """Of a TCP connection."""
    reason: str = ""
    """Why there is none; empty: there is."""
    large: bool | None = None
    """Whether large packets cross in both directions; None: not tried."""


def travel(nodes: Sequence[Mapping[str, Any]], directory: Path) -> tuple[tuple[Trip, ...], int]:
    """Try the first 16 of ``nodes`` side by side; and how many were left out. It blocks for 7 s at most.

    Args:
        nodes: With ``id``, ``name`` and ``peer_addresses``.
        directory: Of this node's credential.
    """
    with ThreadPoolExecutor(MOST) as pool:
        trips = tuple(pool.map(lambda node: _trip(node, directory), nodes[:MOST]))
    return trips, max(0, len(nodes) - MOST)


def _trip(node: Mapping[str, Any], directory: Path) -> Trip:
    addresses = [parse_address(text) for text in node["peer_addresses"]]
    reason = "it tells no address"
    for address in addresses[:2]:
        begun_s = time.monotonic()
        try:
            with socket.create_connection((address.host, address.port), CONNECT_S / 2) as connection:
                seconds = time.monotonic() - begun_s
                large = _carries(connection, str(node["id"]), directory)
            if large is False and not _answers(address):
                return Trip(str(node["name"]), str(address), seconds, HANGS)
            return Trip(str(node["name"]), str(address), seconds, large=large)
        except OSError as error:
            reason = reason if reason.startswith(str(address)) else reason_of(error)
    first: Address | str = addresses[0] if addresses else "-"
    return Trip(str(node["name"]), str(first), reason=reason)


def _carries(connection: socket.socket, node: str, directory: Path) -> bool | None:
    """Whether a TLS handshake and a request of 16 KiB get through; None where that says nothing."""
    ends_s = time.monotonic() + ANSWER_S
    connection.settimeout(ANSWER_S)
    try:
        swarm = read_certificate((directory / CERTIFICATE).read_bytes()).subject.swarm
        name = node_server_name(NodeId(node), swarm)
        with peer_client_context(directory).wrap_socket(connection, server_hostname=name) as secured:
            secured.settimeout(max(0.1, ends_s - time.monotonic()))
            secured.sendall(b"GET /healthz HTTP/1.1\r\nhost: peer\r\nx-fill: %b\r\n\r\n" % (b"x" * _LARGE))
            secured.settimeout(max(0.1, ends_s - time.monotonic()))
            return bool(secured.recv(1))
    except TimeoutError:
        return False
    except (OSError, SwarmError):
        return None


def _answers(address: Address) -> bool:
    """Whether anything comes back for a few bytes: who lives ends a connection that begins with no TLS."""
    try:
        with socket.create_connection((address.host, address.port), _ALERT_S) as connection:
            connection.settimeout(_ALERT_S)
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True
