"""Accelerators, as drivers tell of them: recorded answers, and the kernel's files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from swarmplane.hardware import gpus
from swarmplane.hardware.gpus import (
    Accelerators,
    GpuReading,
    amd_cards,
    from_nvidia_smi,
    from_nvml,
    kinds_on_bus,
)
from swarmplane.inventory import Gpu

MIB, GIB = 1 << 20, 1 << 30
SMI = """NVIDIA GeForce RTX 4090, 24564, 23028, 41
NVIDIA GeForce RTX 3060, 12288, 11901, [N/A]
NVIDIA GB10, [N/A], [N/A], 47
"""


def _files(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def _amd(device: Path, **more: str) -> None:
    _files(
        device,
        vendor="0x1002",
        device="0x744c",
        mem_info_vram_total=str(24 * GIB),
        mem_info_vram_used=str(2 * GIB),
        hwmon__hwmon3__temp1_input="52000",
        **more,
    )


def test_nvidia_smi() -> None:
    large, small, shared = from_nvidia_smi(SMI)
    assert large == GpuReading(Gpu("NVIDIA GeForce RTX 4090", "nvidia", 24564 * MIB), 23028 * MIB, 41.0)
    assert (small.free_bytes, small.celsius) == (11901 * MIB, None)
    assert (shared.gpu.memory_bytes, shared.free_bytes) == (0, None), "it shares the machine's"
    assert from_nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate with the driver.\n") == ()


def test_nvml() -> None:
    class NVMLError(Exception):
        pass

    def memory(handle: str) -> SimpleNamespace:
        if handle == "shared":
            raise NVMLError
        return SimpleNamespace(total=80 * GIB, free=79 * GIB, used=GIB)

    def degrees(handle: str, sensor: int) -> int:
        if handle == "shared" or sensor:
            raise NVMLError
        return 33

    nvml = ModuleType("pynvml")
    nvml.__dict__.update(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetName=lambda handle: b"NVIDIA H100" if handle == "own" else "NVIDIA GB10",
        nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetTemperature=degrees,
    )
    own, shared = from_nvml(nvml, ["own", "shared"])
    assert own == GpuReading(Gpu("NVIDIA H100", "nvidia", 80 * GIB), 79 * GIB, 33.0)
    assert shared == GpuReading(Gpu("NVIDIA GB10", "nvidia"))


def test_the_kernel_tells_of_amd_s(tmp_path: Path) -> None:
    _amd(tmp_path / "card0" / "device", product_name="AMD Radeon RX 7900 XTX")
    _amd(tmp_path / "card1" / "device")
    _files(tmp_path / "card0-DP-1", status="connected")
    _files(tmp_path / "card2" / "device", vendor="0x8086")
    named, unnamed = amd_cards(tmp_path)
    assert named == GpuReading(Gpu("AMD Radeon RX 7900 XTX", "amd", 24 * GIB), 22 * GIB, 52.0)
    assert unnamed.gpu.name == "AMD 744c"
    assert amd_cards(tmp_path / "none") == ()


def test_what_is_on_the_bus_is_known_by_its_maker(tmp_path: Path) -> None:
    _files(tmp_path / "0000:01:00.0", vendor="0x10de", **{"class": "0x030200"})
    _files(tmp_path / "0000:01:00.1", vendor="0x10de", **{"class": "0x040300"})
    _files(tmp_path / "0000:02:00.0", vendor="0x1a03", **{"class": "0x030000"})
    assert kinds_on_bus(tmp_path) == {"nvidia"}
    _files(tmp_path / "0000:03:00.0", vendor="0x1002", **{"class": "0x038000"})
    assert kinds_on_bus(tmp_path) == {"nvidia", "amd"}
    assert kinds_on_bus(tmp_path / "none") == frozenset()


def test_a_driver_that_does_not_answer_makes_them_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _files(tmp_path / "0000:01:00.0", vendor="0x10de", **{"class": "0x030200"})
    monkeypatch.setattr(gpus, "kinds_on_bus", lambda: kinds_on_bus(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "_nvml", tuple)
    found = gpus.read_accelerators()
    assert (found.unread, found.gpus, found.memory) == (("nvidia",), None, (None, None))

    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 81007, 30'\n")
    smi.chmod(0o755)
    found = gpus.read_accelerators()
    assert found.gpus == (Gpu("NVIDIA H100 80GB HBM3", "nvidia", 81559 * MIB),)
    assert found.memory == (81007 * MIB, 81559 * MIB)
    assert not found.quick, "a program was started for it"


def test_memory_of_all_is_known_only_where_each_tells() -> None:
    one, two = (GpuReading(Gpu("x", "amd", 8 * GIB), free) for free in (GIB, None))
    assert Accelerators((one, one)).memory == (2 * GIB, 16 * GIB)
    assert Accelerators((one, two)).memory == (None, 16 * GIB)
    assert Accelerators(()).memory == (None, None)
    screen = GpuReading(Gpu("Radeon Graphics", "amd", GIB // 2), GIB // 4)
    assert Accelerators((screen,)).memory == (None, None), "models don't run there"
    assert Accelerators((screen, one)).memory == (GIB, 8 * GIB)


def test_names_are_for_people() -> None:
    large, small = Gpu("RTX 4090", "nvidia", 24 * GIB), Gpu("Apple M3", "apple")
    assert gpus.names([large, small, large]) == "2 x RTX 4090 (24 GiB), Apple M3"
