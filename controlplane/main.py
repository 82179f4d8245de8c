"""``python -m controlplane.main``, also known as ``swarm-controlplane``: one instance of a swarm."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmplane import logs
from swarmplane.entry import USAGE, add_flags, data_dir_of, lifeline_of, run_to_end, say
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.load import load

PROGRAM = "swarm-controlplane"
_COLLECT_EVERY = 20_000
"""Objects more than there were, for a look at the youngest."""
_SHORTHANDS = {
    "--control-listen": ("control.listen", "HOST:PORT", "control listener"),
    "--join-listen": ("control.join_listen", "HOST:PORT", "enrolment listener"),
    "--console-listen": ("control.console_listen", "HOST:PORT", "console and admin listener"),
    "--control-metrics-listen": ("control.metrics_listen", "HOST:PORT", "listener for metrics alone"),
    "--swarm": ("swarm.name", "NAME", "name of a swarm that is founded"),
    "--swarm-secret-file": ("swarm.secret_file", "FILE", "the swarm secret, if it is not in the data dir"),
    "--etcd": ("etcd.endpoints", "URL,...", "etcd's members; without: the embedded store"),
    "--etcd-ca": ("etcd.ca_file", "FILE", "authorities of etcd's certificates"),
    "--etcd-cert": ("etcd.cert_file", "FILE", "certificate towards etcd"),
    "--etcd-key": ("etcd.key_file", "FILE", "its key"),
    "--etcd-user": ("etcd.user", "NAME", "user of etcd"),
    "--etcd-password-file": ("etcd.password_file", "FILE", "file with its password"),
    "--log-level": ("log.level", "LEVEL", "debug, info, warning or error"),
    "--log-format": ("log.format", "FORMAT", "text or json"),
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """What was asked for."""

    data_dir: Path
    overrides: tuple[str, ...]
    """``key.path=value``."""
    lifeline_fd: int | None = None
    """The read end of a pipe whose end means that the parent died."""


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Read the command line; words that make no sense end the process with status 2."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Keep a swarm: who is in it, and who serves what."
    )
    add_flags(parser)
    for flag, (key, metavar, words) in _SHORTHANDS.items():
        parser.add_argument(flag, metavar=metavar, dest=key, help=f"{words} ({key})")
    given = vars(parser.parse_args(arguments))
    shorthands = [f"{key}={given[key]}" for key, _, _ in _SHORTHANDS.values() if given[key] is not None]
    return Arguments(
        data_dir=data_dir_of(given),
        overrides=(*given["set"], *shorthands),
        lifeline_fd=lifeline_of(given),
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Run an instance until it is told to stop. Returns the exit status: 0, 1 failed, 2 usage."""
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = load(given.data_dir, given.overrides)
    except InvalidRequestError as error:
        return say(PROGRAM, error.message, USAGE)
    logs.configure(settings.log.level, settings.log.format)
    from controlplane.process.life import live
    from controlplane.process.reload import Reloader

    # With a thousand streams a tenth of all time went into looking for cycles, and what is found is little.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 50)
    reloader = Reloader(settings, lambda: load(given.data_dir, given.overrides))
    return run_to_end(
        PROGRAM, live(settings, given.data_dir, lifeline_fd=given.lifeline_fd, reloader=reloader)
    )


if __name__ == "__main__":
    sys.exit(run())
