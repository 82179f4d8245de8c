"""What the operating system tells of this host: memory, heat, and whether somebody works at it.

Everything here is cheap (under 5 ms) and blocks: call it in a thread. What a platform does not tell is None.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from sidecar.backends.hardware import Spare
from sidecar.core.conditions import pressure_of
from swarmplane.hardware.memory import memory_here

ACTIVE_S: Final = 300.0
"""Somebody who typed so short a time ago works at the host."""
_PRESSURE: Final = Path("/proc/pressure/memory")


def memory(spare: Spare) -> tuple[int | None, int | None, float | None]:
    """Bytes that a model could take, of how many, and how short the host is of memory (0 to 1).

    The first two are the accelerators' where these have memory of their own: that is where models run.
    In a container that may take less than the machine has, the machine's counts for nothing.
    """
    found = memory_here()
    pressure = pressure_of(found.free, found.total, stalled_share())
    if spare.has_gpu_memory:
        return spare.gpu_free_bytes, spare.gpu_bytes, pressure
    return found.free, found.total, pressure


def stalled_share(path: Path = _PRESSURE) -> float | None:
    """Share of the last ten seconds in which some program waited for memory; Linux only."""
    try:
        first = path.read_text(encoding="ascii").splitlines()[0]
        kind, average = first.split()[:2]
        if kind != "some" or not average.startswith("avg10="):
            return None
        return float(average.removeprefix("avg10=")) / 100.0
    except (OSError, ValueError, IndexError):
        return None


def owner_active(now_s: float | None = None) -> bool | None:
    """Whether somebody typed at this host's own terminals lately; None where that cannot be known.

    People who came over the network do not work at it. A graphical session without a terminal tells nothing.
    """
    if sys.platform != "linux":
        return None
    now_s = time.time() if now_s is None else now_s
    try:
        people = psutil.users()
    except (OSError, psutil.Error):
        return None
    here = [one for one in people if not one.host or one.host.startswith(":")]
    idle_s: list[float] = []
    for one in here:
        # The device's access time is when something was typed last, as `w` reads it.
        with contextlib.suppress(OSError, ValueError):
            idle_s.append(now_s - os.stat(f"/dev/{one.terminal}").st_atime)  # noqa: PTH116 - a device
    if idle_s and min(idle_s) < ACTIVE_S:
        return True
    # Nobody is listed in a container either, and on a screen without a terminal nothing is seen typed.
    return False if here and len(idle_s) == len(here) else None


def overheated() -> bool | None:
    """Whether a sensor is at the limit that it names itself; None where no sensor names one."""
    read = getattr(psutil, "sensors_temperatures", None)
    if read is None:
        return None
    try:
        sensors = [sensor for group in read().values() for sensor in group]
    except (OSError, ValueError, RuntimeError):
        return None
    limited = [sensor for sensor in sensors if sensor.high and sensor.current is not None]
    return any(sensor.current >= sensor.high for sensor in limited) if limited else None
