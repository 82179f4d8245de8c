"""``swarmctl down`` and ``restart``."""

from __future__ import annotations

import click

from cli.invocation import Everywhere, invocation
from cli.output import emit, say
from cli.running import wait_for


@click.command(cls=Everywhere)
def down() -> None:
    """Stop this host. It stays in its swarm: `swarmctl up` goes on."""
    from cli.supervise.asking import stop_host
    from swarmplane.settings.load import load

    data_dir = invocation().data_dir
    pid = wait_for(stop_host(data_dir, load(data_dir.root).drain_s))
    if pid is None:
        say(f"no host runs in {data_dir.root}")
    emit("down", {"stopped": pid is not None, "pid": pid}, "stopped" if pid is not None else "not running")


@click.command(cls=Everywhere)
def restart() -> None:
    """Stop this host and run it again, with its settings read anew. One that is down is run detached."""
    from cli.supervise.asking import restart_host
    from cli.supervise.detach import run_detached
    from cli.supervise.lock import holder
    from swarmplane.runtime import read_runtime
    from swarmplane.settings.load import load

    called = invocation()
    data_dir = called.data_dir
    settings = load(data_dir.root)  # settings that are wrong must not take a running host down
    pid = holder(data_dir)
    if pid is None:
        run_detached(data_dir, (), flags=called.flags())
        runtime = read_runtime(data_dir)
    else:
        runtime = wait_for(restart_host(data_dir, pid, settings.drain_s))
        say(f"ready: {runtime.urls.get('client', '')} (node {runtime.node_name})")
    emit("restart", {"runtime": runtime.document() if runtime is not None else None}, "restarted")
