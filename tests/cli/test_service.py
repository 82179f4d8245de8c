"""Services as each operating system reads them, and what is asked of its service manager."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cli.service.contract import Manager, Step
from cli.service.description import NAME, STOP_MARGIN_S, Account, Description, carried, name_of, stop_s
from cli.service.installing import Installer, account_of
from cli.service.launchd import Launchd
from cli.service.scheduled_task import NAMESPACE, ScheduledTask
from cli.service.systemd import Systemd
from swarmplane.errors import FailedPreconditionError
from swarmplane.settings.schema import Settings
from tests.cli.conftest import Done

GOLDEN = Path(__file__).parent / "services"
HERE = Description(
    name="swarmplane",
    command=("/opt/my env/bin/python", "-m", "cli.main", "up", "--data-dir", "/srv/ann/100% $HOME"),
    data_dir=Path("/srv/ann/100% $HOME"),
    account=Account("ann", Path("/srv/ann")),
    environment={"PATH": "/usr/local/bin:/usr/bin", "OLLAMA_HOST": 'a "quoted" one'},
    log_dir=Path("/srv/ann/logs"),
    stop_s=90,
)
MANAGERS: Mapping[str, Manager] = {
    "user.service": Systemd(False, Path("/srv/ann/.config/systemd/user")),
    "system.service": Systemd.of_machine(),
    "daemon.plist": Launchd(),
    "task.xml": ScheduledTask(Path("service")),
}


@pytest.mark.parametrize("name", MANAGERS)
def test_a_service_is_written_as_agreed(name: str) -> None:
    """After a change on purpose: ``UPDATE_GOLDEN=1 pytest tests/cli/test_service.py``."""
    text = MANAGERS[name].text(HERE)
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("system", [True, False], ids=["system", "user"])
def test_systemd_finds_no_fault_in_its_units(system: bool, tmp_path: Path) -> None:
    unit = tmp_path / "swarmplane.service"
    # A program and a user that exist: it looks for both.
    here = replace(
        HERE, command=(sys.executable, *HERE.command[1:]), account=account_of({}, "", system=False)
    )
    unit.write_text(Systemd(system, tmp_path).text(here))
    scope = () if system else ("--user",)
    done = subprocess.run(
        ["systemd-analyze", *scope, "verify", str(unit)],
        capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_daemon_is_a_property_list_that_runs_as_the_user() -> None:
    read = plistlib.loads(Launchd().encoded(Launchd().text(HERE)))
    assert read["UserName"] == "ann"
    assert read["ProgramArguments"] == list(HERE.command)
    assert read["EnvironmentVariables"]["HOME"] == "/srv/ann"
    assert read["ExitTimeOut"] == 90
    assert read["Label"] == "swarmplane.host"
    assert Launchd().file("swarmplane-b-123456").name == "swarmplane.host.b-123456.plist"


def test_a_task_is_xml_that_runs_for_ever_without_a_password() -> None:
    task = ScheduledTask(Path("service"))
    read = ET.fromstring(task.encoded(task.text(HERE)))

    def value(path: str) -> str:
        found = read.find("/".join(f"{{{NAMESPACE}}}{part}" for part in path.split("/")))
        assert found is not None
        return found.text or ""

    assert value("Principals/Principal/LogonType") == "S4U"
    assert value("Settings/ExecutionTimeLimit") == "PT0S"
    assert value("Actions/Exec/Command") == "/opt/my env/bin/python"
    assert '--data-dir "/srv/ann/100% $HOME" --log-file' in value("Actions/Exec/Arguments")


def test_a_service_may_stop_for_longer_than_the_host_drains() -> None:
    assert stop_s(Settings().drain_s) > Settings().drain_s
    assert stop_s(0.2) == STOP_MARGIN_S + 1


def test_every_data_directory_has_a_service_of_its_own(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    assert name_of(usual, usual) == NAME
    names = {name_of(tmp_path / part / "My Node!", usual) for part in ("a", "b")}
    assert len(names) == 2
    assert all(name.startswith("swarmplane-my-node-") for name in names)


def test_a_service_gets_no_variable_that_nobody_named() -> None:
    assert carried({"PATH": "/bin", "OPENAI_API_KEY": "secret", "HF_HOME": "a\nb"}) == {"PATH": "/bin"}


class _Systemctl:
    """Answers as ``systemctl`` does, and keeps what it was asked."""

    def __init__(self, refuses: str = "") -> None:
        self.asked: list[str] = []
        self._refuses = refuses

    def __call__(self, step: Step, within_s: float) -> subprocess.CompletedProcess[str]:
        assert within_s > 0
        line = " ".join(step.command[2:])
        self.asked.append(line)
        refused = bool(self._refuses) and line.startswith(self._refuses)
        return subprocess.CompletedProcess(step.command, int(refused), "", "Failed to connect to bus")


def test_a_second_install_changes_nothing_and_an_uninstall_reverses_it(tmp_path: Path) -> None:
    systemctl, manager = _Systemctl(), Systemd(False, tmp_path / "user")
    installer, file = Installer(manager, systemctl), tmp_path / "user" / "swarmplane.service"
    start = ["daemon-reload", "enable swarmplane.service", "start swarmplane.service"]
    assert not installer.standing("swarmplane").installed
    assert installer.install(HERE, start=True)
    assert systemctl.asked == start
    written = file.stat()
    assert not installer.install(HERE, start=True)
    assert file.stat().st_mtime_ns == written.st_mtime_ns
    assert systemctl.asked == start * 2
    assert installer.install(replace(HERE, stop_s=40), start=True)
    assert systemctl.asked[-1] == "restart swarmplane.service"
    standing = installer.standing("swarmplane")
    assert (standing.installed, standing.enabled, standing.active) == (True, True, True)
    assert installer.remove("swarmplane", 40)
    assert "disable --now swarmplane.service" in systemctl.asked
    assert not file.exists()
    asked = len(systemctl.asked)
    assert not installer.remove("swarmplane", 40)
    assert len(systemctl.asked) == asked


def test_a_manager_that_refuses_is_quoted_with_what_to_do(tmp_path: Path) -> None:
    installer = Installer(Systemd(False, tmp_path), _Systemctl("enable"))
    with pytest.raises(FailedPreconditionError, match=r"Failed to connect to bus.*--system"):
        installer.install(HERE, start=True)


@pytest.mark.skipif(sys.platform != "linux", reason="it shows a unit of systemd")
def test_printing_a_service_touches_nothing(
    swarmctl: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    data_dir = tmp_path / "data"
    done = swarmctl(
        "service",
        "install",
        "--user",
        "--print",
        "--lan",
        "--open",
        "--log-level",
        "debug",
        data_dir=data_dir,
    )
    assert done.status == 0
    assert "Type=notify" in done.out
    # What config.toml would not keep is on the command line.
    assert '"--set" "swarm.open=true" "--set" "log.level=debug"' in done.out
    assert "node.lan" not in done.out
    assert not data_dir.exists()
    assert not (tmp_path / "home").exists()
    status = swarmctl("service", "status", data_dir=data_dir)
    assert "not installed" in status.out
    assert swarmctl("service", "uninstall", data_dir=data_dir).status == 0


def test_a_service_with_settings_that_contradict_is_refused(
    swarmctl: Callable[..., Done], tmp_path: Path
) -> None:
    done = swarmctl("service", "install", "--print", "--open", data_dir=tmp_path / "data")
    assert done.status == 2
    assert "--lan" in done.err


def test_a_directory_can_write_no_lines_of_a_unit(swarmctl: Callable[..., Done], tmp_path: Path) -> None:
    done = swarmctl("service", "install", "--print", data_dir=tmp_path / "x\nExecStartPre=/bin/evil")
    assert (done.status, "line breaks" in done.err) == (2, True)
    unit = Systemd.of_machine().text(replace(HERE, data_dir=Path("/srv/ann\\")))
    assert "Swarmplane host in /srv/ann\nWants=" in unit
