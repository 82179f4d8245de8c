"""``swarmctl join`` on a host that is a node already: still one, somewhere else, or one no longer."""

from __future__ import annotations

from dataclasses import replace

from cli.client.connection import connected_to
from swarmplane.addresses import Address
from swarmplane.client.targets import node_target
from swarmplane.datadir import DataDir
from swarmplane.errors import Code, SwarmError
from swarmplane.identity import NodeRecord, write_record
from swarmplane.locating import locate
from swarmplane.settings.schema import CONTROL_PORT


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
    """``record`` with the swarm's ``address`` kept as one more place to look: the founder may have moved."""
    located = await locate(address)
    known = replace(
        record,
        control_addresses=_first_of(record.control_addresses, str(Address(located.host, CONTROL_PORT))),
        join_addresses=_first_of((str(located.address),), *record.join_addresses),
    )
    if known != record:
        write_record(data_dir, known)
    return known


def _first_of(first: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *more]))
