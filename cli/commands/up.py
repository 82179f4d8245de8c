"""``swarmctl up``."""

from __future__ import annotations

from typing import Any

import click

from cli.hostflags import host_flags, overrides_of
from cli.invocation import Everywhere, invocation
from swarmplane.errors import AlreadyExistsError, InvalidRequestError


@click.command(cls=Everywhere)
@host_flags
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when it is ready.")
@click.option("--new", is_flag=True, help="Found a swarm, whatever there is to join.")
@click.option("--lifeline-stdin", is_flag=True, hidden=True)
def up(detach: bool, new: bool, lifeline_stdin: bool, **given: Any) -> None:  # noqa: ANN401 - host_flags
    """Run this host: a sidecar, and a control plane where it founds a swarm.

    A host that is in a swarm goes on there. Flags of the first run, the one that founds the swarm, are kept
    in config.toml, so that `swarmctl up` alone runs the same host again; those of later runs hold for the
    run. One Ctrl-C finishes running requests for at most 10 seconds, a second one stops at once.
    """
    from cli.supervise.detach import run_detached
    from cli.supervise.lock import held
    from cli.supervise.run import is_new, run_host
    from swarmplane.identity import read_record
    from swarmplane.ids import is_node_name
    from swarmplane.settings.load import load

    called = invocation()
    data_dir = called.data_dir
    overrides = overrides_of(given)
    settings = load(data_dir.root, overrides)
    if settings.node.name and not is_node_name(settings.node.name):
        raise InvalidRequestError(
            f"{settings.node.name!r} can't name a node: lower-case letters, digits, dashes"
        )
    record = read_record(data_dir)
    if new and record is not None:
        raise AlreadyExistsError(
            f"this host is in swarm {record.swarm_name} ({record.swarm_id}); `swarmctl leave` first"
        )
    if detach:
        run_detached(data_dir, overrides, flags=called.flags())
        return
    with held(data_dir):
        run_host(
            data_dir, overrides, flags=called.flags(), lifeline=lifeline_stdin, keep_flags=is_new(data_dir)
        )
