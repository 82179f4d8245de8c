"""The command line of ``swarm-sidecar``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmplane.settings.directories import default_data_dir

_SHORTHANDS: Final = {
    "--name": ("node.name", "NAME", "wished name of this node"),
    "--admin-listen": ("admin.listen", "HOST:PORT", "admin listener"),
    "--peer-listen": ("peer.listen", "HOST:PORT", "peer listener"),
    "--models-dir": ("engine.models_dir", "DIR", "where models are looked for"),
    "--log-level": ("log.level", "LEVEL", "debug, info, warning or error"),
    "--log-format": ("log.format", "FORMAT", "text or json"),
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """What was asked for."""

    data_dir: Path
    overrides: tuple[str, ...]
    """``key.path=value``."""
    client_fds: tuple[int, ...] = ()
    """Client listeners that the parent bound."""
    lifeline_fd: int | None = None
    """The read end of a pipe whose end means that the parent died."""


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Read the command line; words that make no sense end the process with status 2."""
    parser = argparse.ArgumentParser(
        prog="swarm-sidecar", description="Forward requests for models to where they are served."
    )
    parser.add_argument("--data-dir", type=Path, help="where this host keeps things")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as client.listen=:11400"
    )
    for flag, (key, metavar, words) in _SHORTHANDS.items():
        parser.add_argument(flag, metavar=metavar, help=f"{words} ({key})")
    parser.add_argument(
        "--client-fd",
        action="append",
        default=[],
        type=int,
        metavar="N",
        help="client listener bound already",
    )
    lifeline = parser.add_mutually_exclusive_group()
    lifeline.add_argument("--lifeline-stdin", action="store_true", help="stop when standard input ends")
    lifeline.add_argument("--lifeline-fd", type=int, metavar="N", help="stop when this pipe ends")
    given = parser.parse_args(arguments)
    shorthands = {
        key: getattr(given, flag.removeprefix("--").replace("-", "_"))
        for flag, (key, _, _) in _SHORTHANDS.items()
    }
    return Arguments(
        data_dir=(given.data_dir or default_data_dir()).expanduser().absolute(),
        overrides=(*given.set, *(f"{key}={value}" for key, value in shorthands.items() if value is not None)),
        client_fds=tuple(given.client_fd),
        lifeline_fd=0 if given.lifeline_stdin else given.lifeline_fd,
    )
