"""What platforms' tools said on real machines about sleep; bridges; programs that are asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.doctor.checks.surroundings import bridges_of, linux_sleeps, macos_sleeps, windows_sleeps
from cli.doctor.tools import ask
from swarmplane.advertise import Interface

PMSET = """Battery Power:
 Sleep On Power Button 1
 lowpowermode         0
 standby              1
 ttyskeepawake        1
 displaysleep         2
 sleep                1
AC Power:
 Sleep On Power Button 1
 networkoversleep     0
 disksleep            10
 sleep                10
 displaysleep         10
"""
POWERCFG = """GUID des Energieschemas: 381b4222-f694-41f0-9685-ff5bb260df2e  (Ausbalanciert)
    GUID der Energieeinstellung: 29f6c1db-86da-48c5-9fdb-f2b67b1f44da  (Deaktivierung nach)
      Minimal mögliche Einstellung: 0x00000000
      Maximal mögliche Einstellung: 0xffffffff
    Index der aktuellen Wechselstromeinstellung: 0x00000708
    Index der aktuellen Gleichstromeinstellung: 0x00000384
"""


def test_a_mac_sleeps_by_what_it_does_on_mains() -> None:
    assert macos_sleeps(PMSET) == 10
    assert macos_sleeps(PMSET.replace(" sleep                10", " sleep                0")) is None
    assert macos_sleeps(" sleep                5 (sleep prevented by caffeinate)\n") == 5
    assert macos_sleeps("") is None


def test_windows_sleeps_by_what_it_does_on_mains_in_any_language() -> None:
    assert windows_sleeps(POWERCFG) == 30
    assert windows_sleeps(POWERCFG.replace("0x00000708", "0x00000000")) is None
    assert windows_sleeps("") is None


@pytest.mark.parametrize(
    ("portable", "said", "sleeps"),
    [
        (True, "static\nstatic", True),
        (True, "masked\nmasked", False),
        (False, "static\nstatic", False),
        (True, "", True),
    ],
)
def test_a_portable_linux_machine_sleeps_unless_that_is_masked(
    portable: bool, said: str, sleeps: bool
) -> None:
    assert (linux_sleeps(portable, said) is not None) is sleeps


def test_bridges_of_containers_are_known_by_name() -> None:
    found = bridges_of(
        (
            Interface("docker0", ("172.17.0.1", "fe80::1")),
            Interface("br-0123456789ab", ("172.19.0.1",)),
            Interface("br-lan", ("192.168.1.1",)),
            Interface("docker1", ("172.20.0.1",), up=False),
            Interface("eth0", ("192.168.1.5",)),
        )
    )
    assert found == ("172.17.0.1", "172.19.0.1")


def test_a_program_is_asked_in_bounded_time() -> None:
    hangs = "import time; time.sleep(60)"
    assert ask("no-such-program-at-all") is None
    assert ask(sys.executable, "-c", hangs, limit_s=0.2) is None
    said = ask(
        sys.executable, "-c", "import sys; print('n\\0a\\0t'); print('why', file=sys.stderr); sys.exit(3)"
    )
    assert said is not None
    assert (said.status, said.text.split()) == (3, ["nat", "why"])
    assert Path(sys.executable).is_absolute()
