"""What platforms' tools said on real machines about sleep; bridges; programs that are asked."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.doctor.checks import surroundings
from cli.doctor.checks.surroundings import SLEEP, bridges_of, linux_sleeps, macos_sleeps, windows_sleeps
from cli.doctor.examine import rows
from cli.doctor.host import examined
from cli.doctor.tools import ask
from cli.invocation import Invocation
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


@pytest.mark.parametrize(
    ("portable", "said", "minutes"),
    [
        (True, "[Login]\n#HandleLidSwitch=suspend\n", 0.0),
        (True, "[Login]\nHandleLidSwitch=ignore\n", None),
        (True, "HandleLidSwitch=suspend\n# /etc/systemd/logind.conf.d/1.conf\nHandleLidSwitch=lock\n", None),
        (True, "HandleLidSwitch=ignore\nHandleLidSwitchExternalPower=suspend\n", 0.0),
        (True, "HandleLidSwitch=ignore\nIdleAction=suspend\n", 30.0),
        (False, "IdleAction=suspend-then-hibernate\nIdleActionSec=1h 20min\n", 80.0),
        (False, "IdleAction=hibernate\nIdleActionSec=90\n", 1.5),
        (False, "IdleAction=ignore\nIdleActionSec=30min\n", None),
    ],
)
def test_a_linux_machine_sleeps_by_what_logind_is_told(
    portable: bool, said: str, minutes: float | None
) -> None:
    assert linux_sleeps(portable, "static\nstatic", said) == minutes


@pytest.mark.skipif(sys.platform == "win32", reason="scripts of a shell")
@pytest.mark.breaks("machine.sleep", recorded="what a Mac and a German Windows said")
@pytest.mark.parametrize(
    ("platform", "program", "said", "detail", "fix"),
    [
        ("darwin", "pmset", PMSET, "sleeps after 10 min without input", "sudo pmset -c sleep 0"),
        ("win32", "powercfg", POWERCFG, "sleeps after 30 min without input", "powercfg /change standby"),
    ],
)
def test_what_another_platform_s_tool_says_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    platform: str, program: str, said: str, detail: str, fix: str,
) -> None:  # fmt: skip
    """The check of ``machine.sleep`` as it is, which asks a program of that name."""
    (tmp_path / "said").write_text(said, encoding="utf-8")
    tool = tmp_path / program
    tool.write_text(f"#!/bin/sh\nexec /bin/cat {tmp_path / 'said'}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(surroundings, "sys", SimpleNamespace(platform=platform))
    host = examined(Invocation(named_data_dir=tmp_path))
    host.data_dir.control_plane.mkdir()
    assert SLEEP.id == "machine.sleep"
    assert SLEEP.source.gather is not None
    (row,) = rows([SLEEP], {SLEEP.source: SLEEP.source.gather(host)})
    document = row.document()
    assert document["ok"] is False
    assert detail in row.detail
    assert str(document["fix"]).startswith(fix)


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
