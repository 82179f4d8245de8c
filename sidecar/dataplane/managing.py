"""What changes a backend rather than asks it: who may, and whose (INTERFACE "Client listener").

Models are pulled, made, copied and deleted, kept in memory for good or thrown out of it, on this host's own
backends and by clients of this host; ``client.manage`` says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from swarmplane.errors import Code, SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.request import Head
    from sidecar.dataplane.server import DataPlane
    from swarmplane.credentials.tls import PeerIdentity

SWARM: Final = "swarm"
OFF: Final = "off"


def admit(plane: DataPlane, head: Head, peer: PeerIdentity | None, client: str) -> None:
    """Let ``client`` (its address), or a ``peer``, change backends of this host.

    Raises:
        SwarmError: It may not.
    """
    manage = plane.policy.manage
    if manage == OFF:
        raise forbidden("client.manage is off: models are neither changed nor pinned through this host")
    if peer is not None:
        if manage != SWARM:
            raise forbidden("this node lets only its own clients change its backends; see client.manage")
    elif not plane.keys.asks_here(head, client):
        key = plane.keys.holder(head)
        if key is None or not key.manage:
            raise forbidden(
                "only clients on this host may change its backends, keep_alive 0 and -1 included; "
                "or an API key that may manage (swarmctl key create --manage)"
            )


def elsewhere(asked: str) -> SwarmError:
    """The refusal to pin or unload a model that other nodes have."""
    return forbidden(
        f"keep_alive 0 and -1 act on this host's backends only, and {asked[:256]!r} is on other nodes; "
        "leave it out, or set client.manage = swarm here and there"
    )


def forbidden(sentence: str) -> SwarmError:
    """The refusal of a client that may not do this."""
    return SwarmError(sentence, code=Code.FORBIDDEN)
