"""How this node proves itself on the hop, and how it checks who is at the other end."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Container
from pathlib import Path

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

Denied = Callable[[], Container[SubjectId]]


class PeerTls:
    """The node's credential in use. Making it and :meth:`reload` block for a moment.

    Args:
        directory: Holds ``ca.pem``, ``cert.pem`` and ``key.pem``.
        swarm: The only swarm whose nodes are spoken to.
        denied: The deny list in force, asked at every hop.
        instance_reachable: Whether certificates can be renewed now; while not, expired ones are excused.
        wall_s: Unix time.
    """

    def __init__(
        self,
        directory: Path,
        swarm: SwarmId,
        *,
        denied: Denied,
        instance_reachable: Callable[[], bool],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._swarm = swarm
        self._denied = denied
        self._instance_reachable = instance_reachable
        self._wall_s = wall_s
        self.server_context = peer_server_context(directory)
        """For the peer listener."""
        self.client_context = peer_client_context(directory)
        """For calls to peers."""

    def reload(self) -> None:
        """Take a renewed certificate into use; connections that stand go on."""
        reload_certificate(self.server_context, self._directory)
        reload_certificate(self.client_context, self._directory)

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
        admit(
            peer,
            denied=self._denied(),
            now_s=self._wall_s(),
            instance_reachable=self._instance_reachable(),
        )

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
            instance_reachable=self._instance_reachable(),
        )
