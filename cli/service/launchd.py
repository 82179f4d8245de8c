"""launchd: a daemon that runs as a user.

Not an agent: since macOS 15 what an agent starts reaches the local network only once a person allowed it in
a dialog, and an agent runs only while somebody is logged in.
"""

from __future__ import annotations

import plistlib
from dataclasses import dataclass
from pathlib import Path

from cli.service.contract import Step
from cli.service.description import HOST_LOG, NAME, OPEN_FILES, RESTART_S, Description

_DIRECTORY = Path("/Library/LaunchDaemons")


@dataclass(frozen=True, slots=True)
class Launchd:
    """Property lists in ``directory``."""

    directory: Path = _DIRECTORY
    title: str = "launchd"
    system: bool = True

    def file(self, name: str) -> Path:
        """A property list."""
        return self.directory / f"{_label(name)}.plist"

    def text(self, service: Description) -> str:
        """A daemon with ``UserName``."""
        log = str(service.log_dir / HOST_LOG)
        document = {
            "Label": _label(service.name),
            "ProgramArguments": list(service.command),
            "UserName": service.account.name,
            # launchd gives daemons no HOME, and directories are found by it.
            "EnvironmentVariables": {"HOME": str(service.account.home), **service.environment},
            "RunAtLoad": True,
            # What ended as it was asked to, as by `swarmctl down`, stays down.
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": RESTART_S,
            "ExitTimeOut": service.stop_s,
            "ProcessType": "Interactive",
            "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES},
            "StandardOutPath": log,
            "StandardErrorPath": log,
        }
        return plistlib.dumps(document, sort_keys=False).decode()

    def encoded(self, text: str) -> bytes:
        """UTF-8."""
        return text.encode()

    def start(self, name: str, *, again: bool) -> tuple[Step, ...]:
        """A file that changed is read by loading it anew."""
        out = (Step(("launchctl", "bootout", _target(name)), needed=False),) if again else ()
        return (*out, *self.enable(name))

    def enable(self, name: str) -> tuple[Step, ...]:
        """Loading starts it: launchd knows no difference."""
        return (
            Step(("launchctl", "enable", _target(name))),
            Step(("launchctl", "bootstrap", "system", str(self.file(name)))),
        )

    def remove(self, name: str) -> tuple[Step, ...]:
        """``bootout`` fails where it is not loaded."""
        return (Step(("launchctl", "bootout", _target(name)), needed=False),)

    def removed(self) -> tuple[Step, ...]:
        """Nothing is left."""
        return ()

    def enabled(self, name: str) -> Step:
        """A daemon that is loaded is loaded at every boot."""
        return self.active(name)

    def active(self, name: str) -> Step:
        """One question."""
        return Step(("launchctl", "print", _target(name)))

    def logs(self, service: str, log_dir: Path) -> str:  # noqa: ARG002 - one for each data directory
        """A file in the user's ``Library/Logs``."""
        return f"tail -f {log_dir / 'host.log'}"


def _label(name: str) -> str:
    return f"{NAME}.host{name.removeprefix(NAME).replace('-', '.', 1)}"


def _target(name: str) -> str:
    return f"system/{_label(name)}"
