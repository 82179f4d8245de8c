"""``swarmctl leave``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from cli.invocation import Everywhere, invocation
from cli.output import emit, say
from cli.running import wait_for
from swarmplane.errors import FailedPreconditionError, SwarmError

if TYPE_CHECKING:
    from swarmplane.datadir import DataDir
    from swarmplane.identity import NodeRecord


@click.command(cls=Everywhere)
@click.option("--purge", is_flag=True, help="Delete everything in the data directory, settings too.")
@click.option("--force", is_flag=True, help="Also where members are left, or no control plane answers.")
def leave(purge: bool, force: bool) -> None:
    """Stop this host and delete its node from the swarm.

    A founder takes its swarm with it, so it is refused while other nodes are members.
    """
    from swarmplane.identity import read_record
    from swarmplane.settings.load import load

    data_dir = invocation().data_dir
    record = read_record(data_dir)
    founder = data_dir.control_plane.is_dir()
    if record is None and not founder and not purge:
        say("this host is in no swarm")
        return
    drain_s = load(data_dir.root).drain_s
    if record is not None:
        wait_for(_leave(data_dir, record, drain_s, founder=founder, force=force))
    else:
        wait_for(_stop(data_dir, drain_s))
    _forget(data_dir, record, purge=purge)
    document = {
        "id": record.node_id if record else "",
        "name": record.node_name if record else "",
        "swarm": record.swarm_id if record else "",
        "purged": purge,
    }
    emit("leave", document, f"left swarm {record.swarm_name}" if record else "left")


async def _leave(
    data_dir: DataDir, record: NodeRecord, drain_s: float, *, founder: bool, force: bool
) -> None:
    from cli.client.connection import connected_to
    from cli.rejoining import means_removed
    from swarmplane.client.targets import node_target

    if founder and not await _others_keep_it(data_dir):
        others = [] if force else await _others(data_dir, record)
        if others:
            raise FailedPreconditionError(
                f"this host founded the swarm, and other nodes are members: {', '.join(others)}; "
                "they lose their control plane. Let them leave first, or use --force"
            )
        await _stop(data_dir, drain_s)
        return
    try:
        # Before anything is stopped: a node that can't be deleted stays as it is.
        async with connected_to(node_target(data_dir)) as client:
            await client.node(record.node_id)
        await _stop(data_dir, drain_s)
        async with connected_to(node_target(data_dir)) as client:
            await client.remove_node(record.node_id)
    except SwarmError as error:
        if means_removed(error):
            say(f"node {record.node_name} was removed from swarm {record.swarm_name} before; forgetting it")
            await _stop(data_dir, drain_s)
            return
        if not force:
            raise FailedPreconditionError(
                f"the swarm could not be told: {error.message}; try again, or use --force and then, "
                f"on a host of the swarm: swarmctl node remove {record.node_name}"
            ) from error
        say(f"the swarm could not be told: {error.message}; there: swarmctl node remove {record.node_name}")
        await _stop(data_dir, drain_s)


async def _others_keep_it(data_dir: DataDir) -> bool:
    """Whether other instances keep the swarm when this host's is gone."""
    from cli.client.connection import connected_to
    from swarmplane.client.targets import node_target
    from swarmplane.settings.load import load

    if not load(data_dir.root).etcd.endpoints:
        return False
    try:
        async with connected_to(node_target(data_dir)) as client:
            candidates = [one["candidates"] for one in await client.elections()]
    except SwarmError:
        return False
    return any(isinstance(instances, list) and len(instances) > 1 for instances in candidates)


async def _others(data_dir: DataDir, record: NodeRecord) -> list[str]:
    from cli.client.connection import connected_to
    from swarmplane.client.targets import node_target

    try:
        async with connected_to(node_target(data_dir)) as client:
            return [str(one["name"]) for one in await client.nodes() if one["id"] != record.node_id]
    except SwarmError as error:
        raise FailedPreconditionError(
            f"whether other nodes are members can't be told ({error.message}); run this host, or use --force"
        ) from error


async def _stop(data_dir: DataDir, drain_s: float) -> None:
    from cli.supervise.asking import stop_host

    await stop_host(data_dir, drain_s)


def _forget(data_dir: DataDir, record: NodeRecord | None, *, purge: bool) -> None:
    from swarmplane.contexts import context_names, read_context, remove_context
    from swarmplane.identity import forget_identity
    from swarmplane.settings.directories import config_file

    own_swarm = data_dir.control_plane.is_dir()
    if own_swarm and record is not None:
        for name in context_names(data_dir):
            if read_context(data_dir, name).swarm == record.swarm_id:
                remove_context(data_dir, name)
    forget_identity(data_dir)
    gone = [data_dir.node, data_dir.table.parent, data_dir.control_plane]
    if purge:
        gone += [data_dir.engines, data_dir.logs, data_dir.run, data_dir.context("default").parent]
        config_file(data_dir.root).unlink(missing_ok=True)
        data_dir.runtime.unlink(missing_ok=True)
    for directory in gone:
        shutil.rmtree(directory, ignore_errors=True)
    if purge and data_dir.root.is_dir() and not any(data_dir.root.iterdir()):
        data_dir.root.rmdir()
