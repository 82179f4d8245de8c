"""Accelerators of this machine: NVIDIA's by NVML or ``nvidia-smi``, AMD's by the kernel, Apple's by its kind.

Everything here blocks. A driver that does not answer makes them unknown; nothing is guessed from names.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from swarmplane.inventory import Gpu

NVIDIA: Final = "nvidia"
AMD: Final = "amd"
APPLE: Final = "apple"
LEAST_BYTES: Final = 4 << 30
"""With less memory of its own, an accelerator is there for a screen."""
_DRM: Final = Path("/sys/class/drm")
_PCI: Final = Path("/sys/bus/pci/devices")
_VENDORS: Final = {"0x10de": NVIDIA, "0x1002": AMD}
_DISPLAY: Final = "0x03"
"""First byte of the PCI class of graphics and compute accelerators."""
_SMI: Final = ("--query-gpu=name,memory.total,memory.free,temperature.gpu", "--format=csv,noheader,nounits")
_SMI_S: Final = 5.0
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One accelerator now. None: it does not say."""

    gpu: Gpu
    free_bytes: int | None = None
    """Of its own memory."""
    celsius: float | None = None


@dataclass(frozen=True, slots=True)
class Accelerators:
    """What was found."""

    readings: tuple[GpuReading, ...]
    unread: tuple[str, ...] = ()
    """Kinds of accelerators that are in this machine and whose driver does not answer."""
    quick: bool = True
    """Whether reading again costs next to nothing: no program was started for it."""

    @property
    def gpus(self) -> tuple[Gpu, ...] | None:
        """All of them; None where some can't be read, or this platform does not tell which there are."""
        if self.unread or (not self.readings and not _told_by_kernel()):
            return None
        return tuple(one.gpu for one in self.readings)

    @property
    def memory(self) -> tuple[int | None, int | None]:
        """Free and all bytes of accelerators' own memory together; None where one does not say.

        What a processor's graphics have for the screen does not count.
        """
        own = [one for one in self.readings if one.gpu.memory_bytes >= LEAST_BYTES]
        if not own or self.unread:
            return None, None
        free = [one.free_bytes for one in own if one.free_bytes is not None]
        total = sum(one.gpu.memory_bytes for one in own)
        return (sum(free) if len(free) == len(own) else None), total


def read_accelerators() -> Accelerators:
    """Ask every driver. A few milliseconds with NVML; up to 5 s where ``nvidia-smi`` must be started."""
    if sys.platform == "darwin":
        return Accelerators(_apple())
    present = kinds_on_bus()
    nvidia: tuple[GpuReading, ...] = ()
    quick = True
    if NVIDIA in present or not _told_by_kernel():
        nvidia = _nvml()
        if not nvidia:
            nvidia, quick = _nvidia_smi(), not shutil.which("nvidia-smi")
    amd = amd_cards()
    found = {one.gpu.kind for one in (*nvidia, *amd)}
    return Accelerators((*nvidia, *amd), tuple(sorted(present - found)), quick)


def kinds_on_bus(devices: Path = _PCI) -> frozenset[str]:
    """Makers of the accelerators on the PCI bus, of those whose drivers are asked here; Linux only."""
    found = set()
    with contextlib.suppress(OSError):
        for device in devices.iterdir():
            if _word(device / "class").startswith(_DISPLAY):
                found.add(_VENDORS.get(_word(device / "vendor"), ""))
    return frozenset(found - {""})


def amd_cards(cards: Path = _DRM) -> tuple[GpuReading, ...]:
    """AMD's, as the kernel's driver tells in ``/sys``: no library is needed for it."""
    found = []
    with contextlib.suppress(OSError):
        for card in sorted(cards.glob("card[0-9]*")):
            device = card / "device"
            total = _number(device / "mem_info_vram_total")
            if "-" in card.name or _VENDORS.get(_word(device / "vendor")) != AMD or not total:
                continue
            used = _number(device / "mem_info_vram_used")
            degrees = [_number(one) for one in sorted(device.glob("hwmon/hwmon*/temp1_input"))]
            name = _word(device / "product_name") or f"AMD {_word(device / 'device').removeprefix('0x')}"
            found.append(
                GpuReading(
                    Gpu(name, AMD, total),
                    max(0, total - used) if used is not None else None,
                    degrees[0] / 1_000 if degrees and degrees[0] is not None else None,
                )
            )
    return tuple(found)


def from_nvidia_smi(text: str) -> tuple[GpuReading, ...]:
    """Out of ``nvidia-smi --query-gpu=name,memory.total,memory.free,temperature.gpu`` in MiB, as CSV."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != 4:  # noqa: PLR2004 - the columns asked for
            continue
        name, total, free, degrees = row
        if not total.isdigit():
            # `[N/A]`: memory that it shares with the machine.
            found.append(GpuReading(Gpu(name, NVIDIA)))
            continue
        found.append(
            GpuReading(
                Gpu(name, NVIDIA, int(total) * _MIB),
                int(free) * _MIB if free.isdigit() else None,
                float(degrees) if degrees.isdigit() else None,
            )
        )
    return tuple(found)


def _nvidia_smi() -> tuple[GpuReading, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(  # noqa: S603 - its own flags
            [program, *_SMI], capture_output=True, text=True, timeout=_SMI_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return from_nvidia_smi(done.stdout) if done.returncode == 0 else ()


def _nvml() -> tuple[GpuReading, ...]:
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return from_nvml(pynvml, handles)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def from_nvml(nvml: ModuleType, handles: Iterable[object]) -> tuple[GpuReading, ...]:
    """What NVML tells of ``handles``; a figure that a card does not have is unknown."""
    found = []
    for handle in handles:
        name = nvml.nvmlDeviceGetName(handle)
        total, free, degrees = 0, None, None
        with contextlib.suppress(nvml.NVMLError):
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            total, free = int(memory.total), int(memory.free)
        with contextlib.suppress(nvml.NVMLError):
            degrees = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        found.append(
            GpuReading(
                Gpu(name.decode() if isinstance(name, bytes) else str(name), NVIDIA, total), free, degrees
            )
        )
    return tuple(found)


def _apple() -> tuple[GpuReading, ...]:
    """Of a Mac with a chip of Apple's: it has no memory of its own but the machine's."""
    if platform.machine() != "arm64":
        return ()
    from swarmplane.hardware.machine import cpu_name

    return (GpuReading(Gpu(cpu_name() or "Apple", APPLE)),)


def _told_by_kernel() -> bool:
    """Whether this platform lists what is on its bus: then nothing found means that there is nothing."""
    return _PCI.is_dir()


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _word(path)
    return int(text) if text.isdigit() else None


def names(gpus: Sequence[Gpu]) -> str:
    """For people: each kind once, with its memory."""
    words = [
        f"{one.name} ({one.memory_bytes / 2**30:.0f} GiB)" if one.memory_bytes else one.name for one in gpus
    ]
    return ", ".join(
        f"{words.count(word)} x {word}" if words.count(word) > 1 else word for word in dict.fromkeys(words)
    )
