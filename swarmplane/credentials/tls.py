"""TLS between sidecars: mutual, by name, and still working when certificates end during an outage.

OpenSSL checks the chain and, for callers, the name; it is told not to look at dates (``NO_CHECK_TIME``),
because an expired peer is let in while no instance can renew anybody (PROTOCOL section 1). So every
connection **must** pass :func:`check_peer` after its handshake, and every hop :func:`admit`.
"""

from __future__ import annotations

import ssl
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarmplane.credentials.certificate import subject_of_names
from swarmplane.credentials.files import CA, CERTIFICATE, KEY
from swarmplane.credentials.lifetime import DAY_S
from swarmplane.credentials.names import Profile
from swarmplane.errors import ForbiddenError, UnauthenticatedError
from swarmplane.ids import NodeId, SubjectId, SwarmId

OUTAGE_GRACE_S: Final = 30 * DAY_S
"""How long after its end a peer's certificate is honoured while no instance is reachable."""
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME; Python's ssl has no name for it.


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who stands at the other end of a connection."""

    node: NodeId
    swarm: SwarmId
    not_after_s: float
    """Unix seconds."""


def peer_server_context(directory: Path) -> ssl.SSLContext:
    """For the peer listener: our certificate out of ``directory``, and one of our CA wanted. It blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would carry a certificate that was checked long ago.
    context.num_tickets = 0
    return _prepared(context, directory)


def peer_client_context(directory: Path) -> ssl.SSLContext:
    """For calls to peers; pass ``node_server_name(...)`` as ``server_hostname``. It blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    return _prepared(context, directory)


def _prepared(context: ssl.SSLContext, directory: Path) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=directory / CA)
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    context.set_alpn_protocols(["http/1.1"])
    reload_certificate(context, directory)
    return context


def reload_certificate(context: ssl.SSLContext, directory: Path) -> None:
    """Take a renewed certificate into use: new connections present it, running ones go on. It blocks."""
    context.load_cert_chain(directory / CERTIFICATE, directory / KEY)


def peer_identity(connection: ssl.SSLObject | ssl.SSLSocket) -> PeerIdentity:
    """Who the finished handshake proved the other end to be.

    Raises:
        UnauthenticatedError: It showed no certificate, or one that names nobody.
        ForbiddenError: It is a person or an instance; only nodes speak to nodes.
    """
    certificate: dict[str, Any] = dict(connection.getpeercert() or {})
    if not certificate:
        raise UnauthenticatedError("the peer showed no certificate")
    names = certificate.get("subjectAltName", ())
    subject = subject_of_names([value for kind, value in names if kind == "DNS"])
    if subject.profile is not Profile.NODE:
        raise ForbiddenError("only nodes may call nodes")
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return PeerIdentity(NodeId(subject.name), subject.swarm, float(ends_s))


def admit(
    peer: PeerIdentity, *, denied: Container[SubjectId], now_s: float, instance_reachable: bool
) -> None:
    """That ``peer`` may speak now: not denied, and not expired (or excused). Cheap; for every hop.

    Args:
        peer: From :func:`peer_identity`.
        denied: The swarm's deny list.
        now_s: Unix time.
        instance_reachable: Whether this node is connected to an instance, so that peers can be renewed.

    Raises:
        ForbiddenError: The node was removed from the swarm.
        UnauthenticatedError: Its certificate ended, and there is no excuse for it.
    """
    if SubjectId(peer.node) in denied:
        raise ForbiddenError(f"node {peer.node} was removed from this swarm")
    grace_s = 0.0 if instance_reachable else OUTAGE_GRACE_S
    if now_s > peer.not_after_s + grace_s:
        raise UnauthenticatedError(f"the certificate of node {peer.node} has expired; it must be renewed")


def check_peer(
    connection: ssl.SSLObject | ssl.SSLSocket,
    *,
    expected: NodeId | None,
    denied: Container[SubjectId],
    now_s: float,
    instance_reachable: bool,
) -> NodeId:
    """That the other end of a finished handshake is a node that may speak, and ``expected`` if given.

    Raises:
        UnauthenticatedError: No certificate of a node, another node, or an expired one without excuse.
        ForbiddenError: A person, an instance, or a node that was removed.
    """
    peer = peer_identity(connection)
    if expected is not None and peer.node != expected:
        raise UnauthenticatedError(f"node {peer.node} answers where node {expected} was called")
    admit(peer, denied=denied, now_s=now_s, instance_reachable=instance_reachable)
    return peer.node
