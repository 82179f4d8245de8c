"""How this node proves itself on the hop, and how it checks who is at the other end."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Final

from swarmplane.credentials.names import node_server_name
from swarmplane.credentials.tls import (
    PeerIdentity,
    admit,
    check_peer,
    peer_client_context,
    peer_identity,
    peer_server_context,
    reload_certificate,
)
from swarmplane.errors import ForbiddenError
from swarmplane.ids import NodeId, SubjectId, SwarmId

RETURN_S: Final = 60.0
"""After an outage of all instances, the time in which everybody reconnects and renews: the slowest host waits
15 s for its next try. Those that are expired are excused for as long."""
Denied = Callable[[], Container[SubjectId]]


class PeerTls:
    """The node's credential in use. Making it and :meth:`reload` block for a moment.

    Args:
        directory: Holds ``ca.pem``, ``cert.pem`` and ``key.pem``.
        swarm: The only swarm whose nodes are spoken to.
        denied: The deny list in force, asked at every hop.
        connected_s: Seconds for which instances have been reachable without a break; None: none is. Until
            that was :data:`RETURN_S`, certificates that ended meanwhile are excused.
        wall_s: Unix time.
    """

    def __init__(
        self,
        directory: Path,
        swarm: SwarmId,
        *,
        denied: Denied,
        connected_s: Callable[[], float | None],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._swarm = swarm
        self._denied = denied
        self._connected_s = connected_s
        self._renewed: list[Callable[[], None]] = []
        self._wall_s = wall_s
        self.server_context = peer_server_context(directory)
        """For the peer listener."""
        self.client_context = peer_client_context(directory)
        """For calls to peers."""

    def reload(self) -> None:
        """Take a renewed certificate into use; requests under way go on."""
        reload_certificate(self.server_context, self._directory)
        reload_certificate(self.client_context, self._directory)
        for callback in self._renewed:
            callback()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every renewal: connections that stand still show the old certificate."""
        self._renewed.append(callback)

    @property
    def connected(self) -> bool:
        """Whether an instance is reachable now."""
        return self._connected_s() is not None

    def _renewable(self) -> bool:
        connected_s = self._connected_s()
        return connected_s is not None and connected_s >= RETURN_S

    def server_name(self, node: NodeId) -> str:
        """The name that the certificate of ``node`` must have."""
        return node_server_name(node, self._swarm)

    def accepted(self, connection: ssl.SSLObject) -> PeerIdentity:
        """Who connected.

        Raises:
            SwarmError: Nobody who may speak here.
        """
        peer = peer_identity(connection)
        if peer.swarm != self._swarm:
            raise ForbiddenError("the peer is a node of another swarm")
        self.admit(peer)
        return peer

    def admit(self, peer: PeerIdentity) -> None:
        """That ``peer`` may still speak; cheap.

        Raises:
            SwarmError: It was removed, or its certificate ended without excuse.
        """
        now_s = self._wall_s()
        # Who needs no excuse, is not asked for one: that is every hop but in an outage.
        reachable = now_s > peer.not_after_s and self._renewable()
        admit(peer, denied=self._denied(), now_s=now_s, instance_reachable=reachable)

    def called(self, connection: ssl.SSLObject, expected: NodeId) -> None:
        """That it is ``expected`` who answers.

        Raises:
            SwarmError: It is not, or it may not speak.
        """
        check_peer(
            connection,
            expected=expected,
            denied=self._denied(),
            now_s=self._wall_s(),
            instance_reachable=self._renewable(),
        )
