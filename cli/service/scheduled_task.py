"""Windows: a task of the Task Scheduler that runs at boot, as a user without a stored password."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from cli.service.contract import Step
from cli.service.description import HOST_LOG, RESTART_S, Description

NAMESPACE: Final = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_LEAST_RESTART_S: Final = 60
"""The Task Scheduler knows no shorter wait."""
_TRIES: Final = 999


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """Tasks whose descriptions are kept in ``directory`` too, of the host's data."""

    directory: Path
    title: str = "Task Scheduler"
    system: bool = True

    def file(self, name: str) -> Path:
        """What the task was made of; the Task Scheduler keeps its own copy."""
        return self.directory / f"{name}.xml"

    def text(self, service: Description) -> str:
        """Elements as the schema has them."""
        program, *arguments = service.command
        arguments += ["--log-file", str(service.log_dir / HOST_LOG)]
        task = ET.Element("Task", {"version": "1.3", "xmlns": NAMESPACE})
        about = ET.SubElement(task, "RegistrationInfo")
        ET.SubElement(about, "Description").text = f"Swarmplane host in {service.data_dir}"
        boot = ET.SubElement(ET.SubElement(task, "Triggers"), "BootTrigger")
        ET.SubElement(boot, "Enabled").text = "true"
        principal = ET.SubElement(ET.SubElement(task, "Principals"), "Principal", {"id": "Author"})
        ET.SubElement(principal, "UserId").text = service.account.name
        # For the user, logged in or not; nobody's password is kept, and no network share is reached.
        ET.SubElement(principal, "LogonType").text = "S4U"
        ET.SubElement(principal, "RunLevel").text = "LeastPrivilege"
        task.append(_settings())
        execute = ET.SubElement(ET.SubElement(task, "Actions", {"Context": "Author"}), "Exec")
        ET.SubElement(execute, "Command").text = program
        ET.SubElement(execute, "Arguments").text = subprocess.list2cmdline(arguments)
        ET.indent(task)
        return f'<?xml version="1.0" encoding="UTF-16"?>\n{ET.tostring(task, encoding="unicode")}\n'

    def encoded(self, text: str) -> bytes:
        """UTF-16 with its mark: ``schtasks`` refuses others."""
        return text.encode("utf-16")

    def start(self, name: str, *, again: bool) -> tuple[Step, ...]:  # noqa: ARG002 - it was stopped before
        """Made and run."""
        return (*self.enable(name), Step(("schtasks", "/Run", "/TN", name)))

    def enable(self, name: str) -> tuple[Step, ...]:
        """``/F`` replaces one that is there."""
        return (Step(("schtasks", "/Create", "/TN", name, "/XML", str(self.file(name)), "/F")),)

    def remove(self, name: str) -> tuple[Step, ...]:
        """The host itself is stopped before: the Task Scheduler would kill it."""
        return (Step(("schtasks", "/Delete", "/TN", name, "/F")),)

    def removed(self) -> tuple[Step, ...]:
        """Nothing is left."""
        return ()

    def enabled(self, name: str) -> Step:
        """What exists is enabled; its words are of the system's language."""
        return Step(("schtasks", "/Query", "/TN", name))

    def active(self, name: str) -> Step:
        """As :meth:`enabled`: whether it runs is known by its process."""
        return self.enabled(name)

    def logs(self, service: str, log_dir: Path) -> str:  # noqa: ARG002 - one for each data directory
        """A file in the data directory."""
        return f"Get-Content -Wait {log_dir / 'host.log'}"


def _settings() -> ET.Element:
    settings = ET.Element("Settings")
    for name, value in (
        ("AllowStartOnDemand", "true"),
        ("MultipleInstancesPolicy", "IgnoreNew"),
        ("DisallowStartIfOnBatteries", "false"),
        ("StopIfGoingOnBatteries", "false"),
        ("AllowHardTerminate", "true"),
        ("StartWhenAvailable", "true"),
        ("Enabled", "true"),
        # Zero: for ever. The default kills a task after three days.
        ("ExecutionTimeLimit", "PT0S"),
        # As programs that a person starts; the default is below them.
        ("Priority", "5"),
    ):
        ET.SubElement(settings, name).text = value
    restart = ET.SubElement(settings, "RestartOnFailure")
    ET.SubElement(restart, "Interval").text = f"PT{max(RESTART_S, _LEAST_RESTART_S)}S"
    ET.SubElement(restart, "Count").text = str(_TRIES)
    return settings
