"""A host that gave its swarm up: its store stays, and is never served again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from swarmplane.datadir import DataDir, write_atomically
from swarmplane.errors import FailedPreconditionError

_FILE: Final = "given-up"


def _path(data_dir: DataDir) -> Path:
    return data_dir.control_plane / _FILE


def fence(data_dir: DataDir, why: str) -> None:
    """From now on no control plane serves this store. Durable when it returns. It blocks."""
    write_atomically(_path(data_dir), why.encode() + b"\n")


def is_fenced(data_dir: DataDir) -> bool:
    """Whether the store was given up."""
    return _path(data_dir).exists()


def check_not_given_up(data_dir: DataDir) -> None:
    """That this host's store still is its swarm's truth. It blocks.

    Raises:
        FailedPreconditionError: It was given up: says how, and how it is taken back.
    """
    if not is_fenced(data_dir):
        return
    why = _path(data_dir).read_text(encoding="utf-8").strip()
    raise FailedPreconditionError(
        f"this host's store was given up: {why}. The swarm lives elsewhere; a second copy of it would be a "
        f"second truth. If it was never brought up there, delete {_path(data_dir)}"
    )
