"""The processor, the disk and the battery, as platforms tell of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from swarmplane.hardware.machine import Battery, battery, cpu_name, disk


def test_a_processor_is_named_by_whatever_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    intel, arm = tmp_path / "intel", tmp_path / "arm"
    intel.write_text("processor\t: 0\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R)  Platinum 8480C\n")
    arm.write_text(
        "processor\t: 0\nBogoMIPS\t: 108.00\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 5 Rev 1.0\n"
    )
    assert cpu_name(intel) == "Intel(R) Xeon(R) Platinum 8480C"
    assert cpu_name(arm) == "BCM2835"
    empty = tmp_path / "empty"
    empty.write_text("processor\t: 0\n")
    assert cpu_name(empty) == "", "nothing is guessed"


def test_the_disk_is_that_of_a_directory_that_is_to_be_made(tmp_path: Path) -> None:
    free, total = disk(tmp_path / "not" / "there")
    assert free is not None
    assert total is not None
    assert 0 <= free <= total


def test_a_battery_is_known_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(percent=71.6, secsleft=4_000, power_plugged=False)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: found, raising=False)
    assert battery() == Battery(72, on_mains=False)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert battery() is None

    def broken() -> None:
        raise OSError("no such sensor")

    monkeypatch.setattr(psutil, "sensors_battery", broken, raising=False)
    assert battery() is None
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert battery() is None
