"""What a host tells the local network of itself (``_swarmplane._tcp``), and what others tell. No secrets.

Everybody on the network can say anything here: what is read is bounded and typed, and nothing of it is
believed before a certificate proved it (PROTOCOL section 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarmplane.addresses import Address, parse_address
from swarmplane.errors import SwarmError

SERVICE_TYPE: Final = "_swarmplane._tcp.local."
_FORMAT: Final = "1"
_VALUE_BYTES: Final = 200
"""Of one TXT string of at most 255 bytes, with room for its key."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MOST_ADDRESSES: Final = 8
_LONGEST_LABEL: Final = 63
_YES: Final = "1"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A host that looks for company. Two of one ``node`` are the same host seen twice."""

    node: str
    """Id of the node; of a host that is in no swarm yet, one for this run."""
    node_name: str
    swarm: str = ""
    """Id of its swarm; empty: it is about to found one."""
    swarm_name: str = ""
    fingerprint: str = ""
    """Of the swarm's CA key, as join tokens have it."""
    join: tuple[str, ...] = ()
    """``host:port`` of enrolment listeners, most preferred first."""
    client_port: int = 0
    """Where it takes requests of other machines; 0: it does not."""
    gateway: bool = False
    """Whether it is meant as the URL for clients."""
    version: str = ""
    """Of its software."""

    @property
    def founding(self) -> bool:
        """Whether it is about to found a swarm, and waits for others that are too."""
        return not self.swarm

    @property
    def label(self) -> str:
        """Name of its service instance: readable, and one for each node."""
        tail = f" {self.node[:8]}"
        return f"{self.node_name[: _LONGEST_LABEL - len(tail)]}{tail}".replace(".", "-")


def properties_of(announcement: Announcement) -> dict[str, str]:
    """The TXT record of ``announcement``. What is too long for one is left out, addresses from the end."""
    one = announcement
    found = {
        "v": _FORMAT,
        "node": one.node,
        "name": _cut(one.node_name),
        "swarm": one.swarm,
        "sname": _cut(one.swarm_name),
        "fp": one.fingerprint,
        "join": _joined(one.join),
        "api": str(one.client_port) if one.client_port else "",
        "gw": _YES if one.gateway else "",
        "sv": _cut(one.version),
    }
    return {key: value for key, value in found.items() if value}


def read_properties(properties: Mapping[bytes, bytes | None]) -> Announcement | None:
    """What a TXT record says; None where it is no announcement that we understand."""
    found = {key: _text(value) for key, value in properties.items()}
    node, swarm = found.get(b"node", ""), found.get(b"swarm", "")
    name, fingerprint = found.get(b"name", ""), found.get(b"fp", "")
    if found.get(b"v") != _FORMAT or not _ID.match(node) or not name:
        return None
    if swarm and not (_ID.match(swarm) and _ID.match(fingerprint)):
        return None
    port = found.get(b"api", "")
    return Announcement(
        node=node,
        node_name=name,
        swarm=swarm,
        swarm_name=found.get(b"sname", ""),
        fingerprint=fingerprint,
        join=_addresses(found.get(b"join", "")),
        client_port=int(port) if port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16 else 0,
        gateway=found.get(b"gw") == _YES,
        version=found.get(b"sv", ""),
    )


def _cut(text: str) -> str:
    return text.encode()[:_VALUE_BYTES].decode(errors="ignore")


def _joined(addresses: tuple[str, ...]) -> str:
    kept: list[str] = []
    for address in addresses[:_MOST_ADDRESSES]:
        if len(",".join([*kept, address]).encode()) > _VALUE_BYTES:
            break
        kept.append(address)
    return ",".join(kept)


def _addresses(text: str) -> tuple[str, ...]:
    found = []
    for part in text.split(",")[:_MOST_ADDRESSES]:
        try:
            address: Address = parse_address(part)
        except SwarmError:
            continue
        if not address.loopback and not address.unspecified and address.port:
            found.append(str(address))
    return tuple(dict.fromkeys(found))


def _text(value: bytes | None) -> str:
    text = (value or b"")[:_VALUE_BYTES].decode(errors="replace")
    return text if text.isprintable() else ""
