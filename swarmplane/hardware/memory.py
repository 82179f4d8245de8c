"""Memory that programs have here: the machine's, or what their container may take of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_GROUP: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes."""

    free: int
    """What programs may still take without anything being moved to disk."""
    total: int


def memory_here(group: Path = _GROUP) -> Memory:
    """The machine's memory, or less where the version 2 control group at ``group`` leaves less.

    It reads a few files, in under 5 ms.
    """
    import psutil

    machine = psutil.virtual_memory()
    own = _of_container(group)
    if own is None:
        return Memory(machine.available, machine.total)
    return Memory(min(machine.available, own.free), min(machine.total, own.total))


def _of_container(group: Path) -> Memory | None:
    """What a control group leaves; page cache that it could drop counts as free. None: no limit is told."""
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    if not limit.isdigit():
        return None
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return Memory(max(int(limit) - used + cached, 0), int(limit))
