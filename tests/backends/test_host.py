"""Reading the operating system: figures where it tells them, None where it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from sidecar.backends import host
from sidecar.backends.hardware import Spare
from swarmplane.hardware.memory import Memory


def test_memory_of_this_machine_makes_sense() -> None:
    free, total, pressure = host.memory(Spare())
    assert pressure is not None
    assert 0.0 <= pressure <= 1.0
    assert free is not None
    assert total is not None
    assert 0 < free <= total


def test_a_container_is_told_of_as_what_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: the machine's memory, of which this host may take a part."""
    monkeypatch.setattr(host, "memory_here", lambda: Memory(1 << 20, 1 << 30))
    free, total, pressure = host.memory(Spare())
    assert (free, total) == (1 << 20, 1 << 30)
    assert pressure is not None
    assert pressure > 0.99


def test_models_run_in_the_memory_of_accelerators_where_these_have_some() -> None:
    assert host.memory(Spare(7, 80, has_gpu_memory=True))[:2] == (7, 80)
    assert host.memory(Spare(has_gpu_memory=True))[:2] == (None, None), "never a guess"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0 avg60=0 avg300=0 total=0\n", 0.125),
        ("", None),
        ("some avg10=much\n", None),
        ("full avg10=1.0\n", None),
    ],
)
def test_stalls(tmp_path: Path, text: str, wanted: float | None) -> None:
    place = tmp_path / "memory"
    place.write_text(text, encoding="ascii")
    assert host.stalled_share(place) == wanted
    assert host.stalled_share(tmp_path / "absent") is None


def people(*rows: tuple[str, str]) -> Callable[[], list[Any]]:
    return lambda: [SimpleNamespace(terminal=terminal, host=far) for terminal, far in rows]


@pytest.mark.skipif(sys.platform != "linux", reason="terminals are devices there")
def test_whether_somebody_works_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: people from afar counted, nobody listed taken for nobody there."""
    null_s = Path("/dev/null").stat().st_atime
    monkeypatch.setattr(psutil, "users", people(("null", "")))
    assert host.owner_active(null_s + 1.0) is True
    assert host.owner_active(null_s + host.ACTIVE_S) is False
    monkeypatch.setattr(psutil, "users", people(("null", "10.0.0.9")))
    assert host.owner_active(null_s + 1.0) is None
    monkeypatch.setattr(psutil, "users", people((":0", ":0")))
    assert host.owner_active(null_s + 1.0) is None
    monkeypatch.setattr(psutil, "users", people())
    assert host.owner_active(null_s + 1.0) is None


def sensors(*rows: tuple[float, float | None]) -> Callable[[], dict[str, list[Any]]]:
    return lambda: {"chip": [SimpleNamespace(current=now, high=limit) for now, limit in rows]}


def test_heat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a limit of our own invention."""
    monkeypatch.setattr(psutil, "sensors_temperatures", sensors((99.0, None)), raising=False)
    assert host.overheated() is None
    monkeypatch.setattr(psutil, "sensors_temperatures", sensors((80.0, 90.0), (50.0, None)), raising=False)
    assert host.overheated() is False
    monkeypatch.setattr(psutil, "sensors_temperatures", sensors((90.0, 90.0)), raising=False)
    assert host.overheated() is True
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    assert host.overheated() is None
