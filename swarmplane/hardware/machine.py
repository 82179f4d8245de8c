"""The processor, the disk and the battery of this machine. Everything here blocks."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_MODEL: Final = re.compile(r"^(?:model name|Model|Hardware|cpu model)\s*:\s*(.+)$", re.MULTILINE)
_ASK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Battery:
    """Of a portable machine."""

    percent: int
    on_mains: bool | None
    """None: it does not say."""


def cpu_name(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's name, for people; empty: unknown. On macOS a program is asked, for 2 s at most."""
    if sys.platform == "darwin":
        try:
            done = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
                capture_output=True, text=True, timeout=_ASK_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip()
    try:
        found = _MODEL.search(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return platform.processor()
    return " ".join(found[1].split()) if found is not None else ""


def disk(path: Path) -> tuple[int | None, int | None]:
    """Free and all bytes of the disk that holds ``path``, or would; None: unknown."""
    there = next((one for one in (path, *path.parents) if one.exists()), None)
    if there is None:
        return None, None
    try:
        found = shutil.disk_usage(there)
    except OSError:
        return None, None
    return found.free, found.total


def battery() -> Battery | None:
    """None: there is none, or this platform does not tell."""
    import psutil

    read = getattr(psutil, "sensors_battery", None)
    try:
        found = read() if read is not None else None
    except (OSError, RuntimeError, ValueError):
        return None
    return None if found is None else Battery(round(found.percent), found.power_plugged)
