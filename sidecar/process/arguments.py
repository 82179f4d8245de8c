"""The command line of ``swarm-sidecar``: the flags of ``swarmctl up`` that concern a sidecar."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from swarmplane.entry import add_flags, data_dir_of, lifeline_of

_VALUES: Final = {
    "--name": ("node.name", "NAME", "wished name of this node"),
    "--models-dir": ("engine.models_dir", "DIR", "where named models are"),
    "--admin-listen": ("admin.listen", "HOST:PORT", "admin listener"),
    "--peer-listen": ("peer.listen", "HOST:PORT", "listener for other nodes"),
    "--metrics-listen": ("telemetry.metrics_listen", "HOST:PORT", "listener for metrics alone"),
    "--log-level": ("log.level", "LEVEL", "debug, info, warning or error"),
    "--log-format": ("log.format", "FORMAT", "text or json"),
}
_LISTS: Final = {
    "--listen": ("client.listen", "HOST:PORT", "client listener; repeatable"),
    "--backend": ("backends", "URL", "inference server to offer; repeatable"),
    "--model": ("engine.models", "REF", "GGUF file, or name in --models-dir; repeatable"),
    "--advertise": ("node.advertise", "HOST", "host that others reach this one by; repeatable"),
}
_SWITCHES: Final = {
    "--lan": ("node.lan", True, "listen on all interfaces"),
    "--no-discover": ("discovery.backends", False, "don't look for inference servers here"),
    "--no-mdns": ("discovery.mdns", False, "advertise and browse nothing"),
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
    given = vars(_parser().parse_args(arguments))
    return Arguments(
        data_dir=data_dir_of(given),
        overrides=_overrides(given),
        client_fds=tuple(given["client_fd"]),
        lifeline_fd=lifeline_of(given),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="swarm-sidecar",
        description="Forward requests for models to where they are served.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"swarm-sidecar {version('swarmplane')}")
    add_flags(parser)
    for flag, (_, metavar, words) in _VALUES.items():
        parser.add_argument(flag, metavar=metavar, help=words)
    for flag, (_, metavar, words) in _LISTS.items():
        parser.add_argument(flag, metavar=metavar, action="append", help=words)
    for flag, (_, _, words) in _SWITCHES.items():
        parser.add_argument(flag, action="store_true", help=words)
    parser.add_argument(
        "--client-fd",
        action="append",
        default=[],
        type=int,
        metavar="N",
        help="client listener bound already",
    )
    return parser


def _overrides(given: Mapping[str, Any]) -> tuple[str, ...]:
    def value(flag: str) -> Any:  # noqa: ANN401 - text, texts or a truth value
        return given[flag.removeprefix("--").replace("-", "_")]

    found = [f"{key}={value(flag)}" for flag, (key, _, _) in _VALUES.items() if value(flag) is not None]
    found += [f"{key}={json.dumps(value(flag))}" for flag, (key, _, _) in _LISTS.items() if value(flag)]
    found += [f"{key}={json.dumps(on)}" for flag, (key, on, _) in _SWITCHES.items() if value(flag)]
    return (*found, *given["set"])
