"""``swarmctl join`` on a host that is a node already: still one, somewhere else, or one no longer."""

from __future__ import annotations

from cli.client.connection import connected_to
from swarmplane.client.targets import node_target
from swarmplane.credentials.files import load_credential
from swarmplane.datadir import DataDir
from swarmplane.enrollment import find_own
from swarmplane.errors import Code, SwarmError
from swarmplane.identity import NodeRecord, write_record


async def is_removed(data_dir: DataDir, record: NodeRecord) -> bool:
    """Whether the swarm no longer knows this node. A control plane that can't be asked says nothing."""
    try:
        async with connected_to(node_target(data_dir)) as client:
            await client.node(record.node_id)
    except SwarmError as error:
        return means_removed(error)
    return False


def means_removed(error: SwarmError) -> bool:
    """Whether ``error``, of a call with a node's own certificate, says that the swarm no longer knows it."""
    # A certificate that merely ended is renewed by the sidecar.
    return error.code in {Code.UNAUTHENTICATED, Code.NOT_FOUND} and "has ended" not in error.message


async def with_address(data_dir: DataDir, record: NodeRecord, address: str) -> NodeRecord:
    """``record`` with the swarm's ``address`` kept as the first place to look: the founder may have moved.

    What answers there proves by its certificate that it is of this node's swarm; nothing is spent. A sidecar
    that runs and has lost its control plane reads what was kept before its next try.

    Raises:
        SwarmError: Nobody answers there, or it is another swarm. Nothing is written.
    """
    found = await find_own(address, load_credential(data_dir.node).ca_pem)
    known = record.pointed_at(found.control, found.join)
    if known != record:
        write_record(data_dir, known)
    return known
