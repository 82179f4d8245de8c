"""What a sidecar of a swarm has beyond a lone one: identity, certificates, the table on disk, the stream.

Imported on joined hosts only: certificates, gRPC and codecs are memory that a lone host does not need.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.control.certificate import NodeCertificate
from sidecar.control.inbox import Keeping
from sidecar.control.outbox import Facts
from sidecar.control.session import Host
from sidecar.control.stream import Addresses, ControlStream
from sidecar.dataplane.identity import NodeIdentity
from sidecar.dataplane.peer_tls import PeerTls
from sidecar.engines.supervisor import EngineSupervisor
from sidecar.process.pulling import Puller
from sidecar.routing.current import CurrentRoutes
from sidecar.routing.disk import TableKeeper, load_table
from swarmplane.clock import Clock
from swarmplane.codec.table import table_from_bytes, table_to_bytes
from swarmplane.credentials.files import load_credential
from swarmplane.credentials.keys import fingerprint
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, SwarmError
from swarmplane.identity import NodeRecord, read_record, write_record
from swarmplane.ids import NodeId, SwarmId, random_id
from swarmplane.routes import RouteTable

RENEWAL_S: Final = 3.0
log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Here:
    """What a joined host's membership is made from."""

    data_dir: DataDir
    clock: Clock
    routes: CurrentRoutes
    registry: BackendRegistry
    engines: EngineSupervisor
    peer_addresses: tuple[str, ...]
    """``host:port`` told to others, most preferred first."""
    client_url: str
    version: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A joined host's own things, made once at start."""

    identity: NodeIdentity
    tls: PeerTls
    keeper: TableKeeper
    control: ControlStream
    puller: Puller


async def read_identity(data_dir: DataDir) -> NodeRecord:
    """Who this joined host is.

    Raises:
        FailedPreconditionError: It has a certificate, but the rest of its identity can't be read.
    """
    record = await asyncio.to_thread(read_record, data_dir)
    if record is None or not (record.node_id and record.swarm_id and record.control_addresses):
        raise FailedPreconditionError(
            f"{data_dir.node} has a certificate but no readable identity.json; restore the file, or leave "
            "with `swarmctl leave` and join again"
        )
    return record


async def become_member(record: NodeRecord, here: Here) -> Membership:
    """Load what the host of ``record`` kept, and make its control stream.

    ``here.routes`` begin with the table on disk, marked stale.

    Raises:
        SwarmError: Its certificate can't be used.
    """
    routes, directory, swarm = here.routes, here.data_dir.node, SwarmId(record.swarm_id)
    table = await asyncio.to_thread(load_table, here.data_dir.table, table_from_bytes, swarm=swarm)
    routes.install(table or RouteTable(swarm), stale=table is not None)
    if table is not None:
        log.info("table.loaded", version=str(table.version), models=len(table.models))
    await _renew_at_start(record, directory)
    streams: list[ControlStream] = []
    tls = await asyncio.to_thread(
        PeerTls,
        directory,
        swarm,
        denied=lambda: routes.view.table.denied,
        connected_s=lambda: streams[0].connected_s if streams else None,
    )
    keeper = TableKeeper(here.data_dir.table, table_to_bytes, here.clock)
    puller = Puller(here.routes, here.registry, here.clock)
    control = _control(record, here, keeper, tls.reload, puller)
    streams.append(control)
    here.registry.subscribe(lambda _inventory: control.wake())
    here.engines.subscribe(lambda _engines: control.wake())
    identity = await _identity(record, here.data_dir, lambda: control.join_addresses)
    return Membership(identity, tls, keeper, control, puller)


async def _renew_at_start(record: NodeRecord, directory: Path) -> None:
    """A host that was away for long has no use for peers before it has another certificate.

    Where nobody renews it now, peers are in the same case and excuse it; the stream tries again.
    """
    certificate = NodeCertificate(directory, lambda: None)
    try:
        if await certificate.expired():
            async with asyncio.timeout(RENEWAL_S):
                await certificate.renew_by_proof(record.join_addresses)
    except (SwarmError, OSError) as error:
        # OSError covers the time-out.
        log.warning("certificate.not_renewed", reason=str(error) or "nobody answered in time")


async def _identity(
    record: NodeRecord, data_dir: DataDir, join_addresses: Callable[[], tuple[str, ...]]
) -> NodeIdentity:
    credential = await asyncio.to_thread(load_credential, data_dir.node)
    return NodeIdentity(
        node_id=NodeId(record.node_id),
        node_name=record.node_name,
        swarm_id=SwarmId(record.swarm_id),
        swarm_name=record.swarm_name,
        fingerprint=fingerprint(credential.ca_pem),
        join_addresses=join_addresses,
    )


def _control(
    record: NodeRecord, here: Here, keeper: TableKeeper, renewed: Callable[[], None], puller: Puller
) -> ControlStream:
    host = Host(
        node_id=NodeId(record.node_id),
        incarnation=random_id(),
        peer_addresses=here.peer_addresses,
        software_version=here.version,
        platform=f"{sys.platform}-{platform.machine().lower()}",
        client_url=here.client_url,
    )
    known = record

    async def remember(addresses: Addresses, node_name: str, swarm_name: str) -> None:
        nonlocal known
        told = replace(
            known,
            control_addresses=addresses.control,
            join_addresses=addresses.join,
            node_name=node_name or known.node_name,
            swarm_name=swarm_name or known.swarm_name,
        )
        if told != known:
            await asyncio.to_thread(write_record, here.data_dir, told)
            known = told

    async def recall() -> Addresses:
        kept = await asyncio.to_thread(read_record, here.data_dir) or known
        return Addresses(kept.control_addresses, kept.join_addresses)

    return ControlStream(
        host,
        Addresses(record.control_addresses, record.join_addresses),
        Facts(
            here.routes,
            here.registry.inventory,
            here.engines.status,
            lambda: here.routes.own_condition,
            lambda: here.registry.settled,
            puller.reports,
        ),
        Keeping(keeper.keep, keeper.keep_durably, lambda: keeper.trouble),
        NodeCertificate(here.data_dir.node, renewed),
        remember,
        recall,
        here.clock,
    )
