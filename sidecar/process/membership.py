"""What a sidecar of a swarm has beyond a lone one: identity, certificates, the table on disk, the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sidecar.dataplane.identity import NodeIdentity
from sidecar.dataplane.peer_tls import PeerTls
from sidecar.routing.disk import TableKeeper


@dataclass(frozen=True, slots=True)
class Membership:
    """Made once at start; exists only on a joined host."""

    identity: NodeIdentity
    control_addresses: tuple[str, ...]
    tls: PeerTls
    keeper: TableKeeper
    state: Callable[[], Mapping[str, Any]]
    """Of the control stream."""
