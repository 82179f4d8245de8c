"""``swarmctl up``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from cli.hostflags import host_flags, kept_of, overrides_of
from cli.invocation import Everywhere, invocation
from swarmplane.errors import AlreadyExistsError


@click.command(cls=Everywhere)
@host_flags
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when it is ready.")
@click.option("--new", is_flag=True, help="Found a swarm, whatever there is to join.")
@click.option("--lifeline-stdin", is_flag=True, hidden=True)
@click.option("--log-file", type=click.Path(path_type=Path), hidden=True)
def up(detach: bool, new: bool, lifeline_stdin: bool, log_file: Path | None, **given: Any) -> None:  # noqa: ANN401
    """Run this host: a sidecar, and a control plane where it founds a swarm.

    A host that is in a swarm goes on there. Flags that describe the host (all but --set and --log-...) are
    kept in config.toml once it is ready, so that `swarmctl up` alone runs the same host again;
    `swarmctl config set` changes them.

    One Ctrl-C finishes running requests for at most 10 seconds, a second one stops at once. SIGHUP reads the
    settings again; it stops the host where it comes because the terminal was closed, except under nohup.
    """
    from cli.finding import OtherSwarmsError
    from cli.joining_open import join_open
    from cli.supervise.detach import log_into, run_detached
    from cli.supervise.lock import held
    from cli.supervise.run import run_host
    from swarmplane.identity import read_record
    from swarmplane.settings.load import load

    if log_file is not None:
        log_into(log_file)
    called = invocation()
    data_dir = called.data_dir
    overrides = overrides_of(given)
    # What is wrong is said here, also where the host runs elsewhere.
    settings = load(data_dir.root, overrides)
    if settings.swarm.open and not settings.node.lan:
        raise click.UsageError("--open lets hosts of the network in, so it needs --lan")
    record = read_record(data_dir)
    if new and record is not None:
        raise AlreadyExistsError(
            f"this host is in swarm {record.swarm_name} ({record.swarm_id}); `swarmctl leave` first"
        )
    if detach:
        run_detached(data_dir, overrides, flags=called.flags(), kept=kept_of(given), new=new)
        return
    alone = new or not (settings.node.lan and settings.discovery.mdns) or bool(settings.etcd.endpoints)
    run = partial(run_host, data_dir, overrides, flags=called.flags(), lifeline=lifeline_stdin)
    with held(data_dir):
        try:
            run(kept=kept_of(given), alone=alone)
        except OtherSwarmsError as found:
            join_open(data_dir, settings, found.swarms)
            run(kept=kept_of(given))
