"""``swarmctl up`` from the lock to the last process's end, again where a restart is wished."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from functools import partial

from cli.output import say
from cli.supervise import banner
from cli.supervise.founding import wished_name
from cli.supervise.host import Host, Plan
from cli.supervise.listeners import ClientSockets, check_free
from cli.supervise.notifying import READY, tell
from cli.supervise.stopping import Stopping, Wish
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.errors import reason_of
from swarmplane.identity import is_joined
from swarmplane.lifeline import watch_lifeline
from swarmplane.runtime import Runtime
from swarmplane.settings.directories import config_file
from swarmplane.settings.edit import edit
from swarmplane.settings.load import load_with_origins


def run_host(
    data_dir: DataDir,
    overrides: Sequence[str],
    *,
    flags: tuple[str, ...] = (),
    lifeline: bool = False,
    kept: Sequence[str] = (),
    alone: bool = True,
) -> None:
    """Run the host of ``data_dir``, whose lock is held, until it is asked to stop. It blocks.

    A host that is in no swarm founds one; one that founded its swarm runs the control plane too.

    Args:
        data_dir: Of the host.
        overrides: Settings of the command line.
        flags: That lead other commands to this host, for lines that people copy.
        lifeline: Whether the end of standard input stops it.
        kept: Those of ``overrides`` that go into ``config.toml`` once the host is ready.
        alone: Whether a swarm is founded without a look for others on the network.

    Raises:
        OtherSwarmsError: There are others, and no swarm was founded.
        SwarmError: It could not be started.
    """
    with contextlib.closing(ClientSockets()) as sockets:
        while True:
            loaded = load_with_origins(data_dir.root, overrides)
            for warning in loaded.warnings:
                say(f"warning: {warning}")
            plan = Plan(data_dir, loaded.settings, tuple(overrides), founder=runs_control_plane(data_dir))
            if asyncio.run(_run(plan, sockets, flags, kept, lifeline=lifeline, alone=alone)) is Wish.STOP:
                return
            say("starting again")


def runs_control_plane(data_dir: DataDir) -> bool:
    """Whether an instance belongs to this host: it founded its swarm, or is about to."""
    return data_dir.control_plane.is_dir() or founds(data_dir)


def founds(data_dir: DataDir) -> bool:
    """Whether this host, started now, founds a swarm: it belongs to none and keeps none."""
    return not is_joined(data_dir) and not data_dir.control_plane.is_dir()


def keep(data_dir: DataDir, flags: Sequence[str]) -> None:
    """Write ``key=value`` flags that describe the host into its ``config.toml``. It blocks."""
    if flags:
        edit(config_file(data_dir.root), flags)


async def _run(
    plan: Plan,
    sockets: ClientSockets,
    flags: tuple[str, ...],
    kept: Sequence[str],
    *,
    lifeline: bool,
    alone: bool,
) -> Wish:
    new = founds(plan.data_dir)
    stopping = Stopping(plan.data_dir)
    stopping.forget_request()

    async def announce(runtime: Runtime) -> None:
        try:
            await asyncio.to_thread(keep, plan.data_dir, kept)
        except OSError as error:
            say(f"warning: {config_file(plan.data_dir.root)} can't be written: {reason_of(error)}; "
                "the flags of this run are not kept")  # fmt: skip
        await founding.aclose()
        tell(READY)
        await banner.announce(
            plan.data_dir, plan.settings, runtime, founder=plan.founder, founded=new, flags=flags
        )

    listening = sockets.of(plan.settings)
    with stopping.on_signals():
        check_free(plan.settings, founder=plan.founder)
        if lifeline:
            watch_lifeline(asyncio.get_running_loop(), 0, partial(stopping.ask, signal.SIGTERM))
        async with contextlib.AsyncExitStack() as founding:
            if new and not alone:
                from cli.supervise.convening import convened

                await founding.enter_async_context(convened(plan.settings, wished_name(plan.settings)))
            await Host(plan, listening, SystemClock()).run(stopping, announce)
    wish = stopping.wish
    stopping.forget_request()
    return wish
