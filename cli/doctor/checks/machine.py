"""Disk, limits and Python of this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from swarmplane.hardware.gpus import AMD, NVIDIA, Accelerators, names, read_accelerators
from swarmplane.hardware.memory import Memory, memory_here
from swarmplane.interpreter import Interpreter, interpreter_here

LITTLE_BYTES: Final = 1 << 30
LEAST_BYTES: Final = 64 << 20
"""Tables, histories, certificates and logs fail to be written below."""
SPARE_FILES: Final = 512
"""Connections to peers and backends, logs, libraries: beside those of clients."""


LEAST_SHARE: Final = 0.04
"""Of the memory; systems begin to swap about there."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the data directory is, or would be made."""

    path: str
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Files:
    """How many files the sidecar may have open, and how many its settings promise clients."""

    limit: int
    needed: int


def _disk(host: ExaminedHost) -> Disk:
    import shutil

    root = host.data_dir.root
    there = next(one for one in (root, *root.parents) if one.exists())
    return Disk(str(root), shutil.disk_usage(there).free)


def judge_disk(disk: Disk) -> Verdict:
    """A full disk loses tables and certificates; the store of a founder stops."""
    detail = f"{disk.free_bytes / 2**30:.1f} GiB free at {disk.path}"
    fix = f"make room on the disk of {disk.path}, or use another: --data-dir DIR"
    if disk.free_bytes < LEAST_BYTES:
        return bad(f"{disk.free_bytes / 2**20:.0f} MiB free at {disk.path}", fix, "error")
    return bad(detail, fix) if disk.free_bytes < LITTLE_BYTES else good(detail)


def _files(host: ExaminedHost) -> Files:
    if sys.platform == "win32":
        raise SkippedError("Windows has no such limit")
    if host.settings is None:
        raise SkippedError("the settings can't be read")
    import resource

    limit = _of_process(host.runtime.pids.get("sidecar", 0)) if host.runtime is not None else None
    if limit is None:
        # A sidecar started from here lifts its own limit to the hard one.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    return Files(limit, host.settings.client.max_connections + SPARE_FILES)


def _of_process(pid: int) -> int | None:
    if sys.platform != "linux" or not pid:
        return None
    import psutil

    try:
        soft = psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0]
    except psutil.Error:
        return None
    return sys.maxsize if soft < 0 else int(soft)


def judge_files(files: Files) -> Verdict:
    """Beyond the limit, connections wait that the settings promise to take."""
    if files.limit >= files.needed:
        return good("no limit" if files.limit == sys.maxsize else f"{files.limit:,} may be open")
    return bad(
        f"{files.limit:,} files may be open, and client.max_connections needs {files.needed:,}",
        "raise `ulimit -Hn` (LimitNOFILE of a service) and restart, or lower client.max_connections",
    )


def _accelerators(_: ExaminedHost) -> Accelerators:
    return read_accelerators()


def judge_accelerators(found: Accelerators) -> Verdict:
    """Models run on the processor where the driver of an accelerator does not answer."""
    seen = names([one.gpu for one in found.readings])
    if not found.unread:
        return good(seen or ("none" if found.gpus is not None else "none that can be seen from here"))
    fixes = {
        NVIDIA: "install its driver (nvidia-smi must list it); in a container: docker run --gpus all, "
        "with the NVIDIA container toolkit",
        AMD: "load the kernel's driver (modprobe amdgpu), and join the groups render and video; in a "
        "container: --device /dev/kfd --device /dev/dri",
    }
    makers = {NVIDIA: "NVIDIA", AMD: "AMD"}
    return bad(
        f"an accelerator of {' and of '.join(makers[one] for one in found.unread)} is in this machine, "
        "and its driver does not answer" + (f"; seen: {seen}" if seen else ""),
        "; ".join(fixes[one] for one in found.unread),
    )


def judge_room(room: Memory) -> Verdict:
    """A machine without free memory moves programs to disk, and stands still; a container ends them."""
    detail = f"{room.free / 2**30:.1f} of {room.total / 2**30:.1f} GiB are free"
    if room.free < room.total * LEAST_SHARE:
        return bad(detail, "unload models that nobody uses (swarmctl model list), or stop other programs")
    return good(detail)


def judge_python(python: Interpreter) -> Verdict:
    """Built without profile-guided optimisation, it takes 1.4 times as long for a sidecar's own work."""
    if python.build == "unknown":
        raise SkippedError("this Python does not say how it was built")
    said = str(python)
    other = (
        "use that of your distribution, of Homebrew or of uv (uv tool install --managed-python --force "
        "swarmplane; in a checkout: make clean demo PYTHON=/usr/bin/python3)"
    )
    costs = {
        "plain": "a sidecar's own work takes 1.4 times as long as with an optimised build",
        "debug": "it is made to find errors in Python itself, and slow",
        "free-threaded": "a sidecar runs on one thread, which is slower in it",
    }
    if python.build not in costs:
        return good(said)
    minor = ".".join(python.version.split(".")[:2])
    built = f"PYTHON_CONFIGURE_OPTS='--enable-optimizations --with-lto' pyenv install {minor}"
    return bad(
        f"{said}: {costs[python.build]}",
        f"{other}; or build it anew: {built}" if python.build == "plain" else other,
    )


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("machine.disk", "the data directory has room", Source(gather=_disk), judge_disk),
    Check("machine.memory", "memory is left", Source(gather=lambda _: memory_here()), judge_room),
    Check(
        "machine.gpu",
        "accelerators can be used",
        Source(gather=_accelerators, limit_s=6.0),
        judge_accelerators,
    ),
    Check("machine.files", "enough files may be open", Source(gather=_files), judge_files),
    Check(
        "machine.python",
        "Python is an optimised build",
        Source(gather=lambda _: interpreter_here()),
        judge_python,
        "info",
    ),
)
