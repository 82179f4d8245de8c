"""What this host is made of, kept fresh: accelerators, processor, disk, battery."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from swarmplane.hardware.gpus import Accelerators, read_accelerators
from swarmplane.hardware.machine import Battery, battery, cpu_name, disk
from swarmplane.inventory import HostFacts

QUICK_S: Final = 15.0
SLOW_S: Final = 120.0
"""Where a program must be started for it, which costs more than the rest of an idle sidecar."""


@dataclass(frozen=True, slots=True)
class Spare:
    """What is left here now. None: unknown, or there is no such thing."""

    gpu_free_bytes: int | None = None
    gpu_bytes: int | None = None
    has_gpu_memory: bool = False
    """Models run in memory of an accelerator's own, whether it can be read or not."""
    disk_free_bytes: int | None = None
    battery: Battery | None = None


class Hardware:
    """Remembers what is slow to ask. One thread at a time.

    Args:
        place: The data directory, whose disk counts.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._accelerators = Accelerators(())
        self._due_s = -inf
        self._cpu = ""
        self._disk_bytes = 0

    def look(self, now_s: float) -> Spare:
        """What is left at ``now_s``. It blocks; for seconds where a driver's program is asked."""
        if now_s >= self._due_s:
            self._cpu = self._cpu or cpu_name()
            self._accelerators = read_accelerators()
            self._due_s = now_s + (QUICK_S if self._accelerators.quick else SLOW_S)
        free, total = disk(self._place)
        self._disk_bytes = total or 0
        gpu_free, gpu_all = self._accelerators.memory
        return Spare(
            gpu_free,
            gpu_all,
            bool(self._accelerators.unread or gpu_all),
            free,
            battery(),
        )

    def facts(self, gateway_url: str) -> HostFacts:
        """What this host is, as of the last look. It does not block."""
        return HostFacts(
            self._cpu, self._accelerators.gpus if self._due_s > -inf else None, self._disk_bytes, gateway_url
        )
