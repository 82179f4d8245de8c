"""systemd: a unit of the user, or of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.service.contract import Step
from cli.service.description import OPEN_FILES, RESTART_S, START_S, Description


@dataclass(frozen=True, slots=True)
class Systemd:
    """Units in ``directory``."""

    system: bool
    directory: Path

    @classmethod
    def of_machine(cls) -> Systemd:
        """The manager of the machine."""
        return cls(True, Path("/etc/systemd/system"))

    @classmethod
    def of_user(cls, environ: Mapping[str, str], home: Path) -> Systemd:
        """The manager of one user, whose services run while that user is logged in, or lingers."""
        return cls(False, Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd" / "user")

    @property
    def title(self) -> str:
        """See :class:`cli.service.contract.Manager`, as all of these."""
        return "systemd" if self.system else "systemd (user)"

    def file(self, name: str) -> Path:
        """A unit."""
        return self.directory / f"{name}.service"

    def text(self, service: Description) -> str:
        """A unit of type ``notify``: what waits for it waits until clients are served."""
        # A backslash at the end would swallow the next line.
        where = _plain(str(service.data_dir)).rstrip("\\")
        lines = [
            "[Unit]",
            f"Description=Swarmplane host in {where}",
        ]
        if self.system:
            lines += ["Wants=network-online.target", "After=network-online.target"]
        # A host that can't start yet, as before its etcd, may take any number of tries.
        lines += ["StartLimitIntervalSec=0", "", "[Service]", "Type=notify", "NotifyAccess=main"]
        lines.append(f"ExecStart={' '.join(map(_argument, service.command))}")
        lines.append("ExecReload=/bin/kill -HUP $MAINPID")
        if self.system:
            lines.append(f"User={_plain(service.account.name)}")
        lines += [
            f"Environment={_quoted(f'{key}={value}')}" for key, value in sorted(service.environment.items())
        ]
        lines += [
            "Restart=on-failure",
            f"RestartSec={RESTART_S}",
            # Settings that are wrong do not become right by another try.
            "RestartPreventExitStatus=2",
            f"TimeoutStartSec={START_S}",
            f"TimeoutStopSec={service.stop_s}",
            # Only the first process is asked: it drains the others in order.
            "KillMode=mixed",
            f"LimitNOFILE={OPEN_FILES}",
        ]
        if self.system:
            lines.append("NoNewPrivileges=true")
        lines += ["", "[Install]", f"WantedBy={'multi-user' if self.system else 'default'}.target", ""]
        return "\n".join(lines)

    def encoded(self, text: str) -> bytes:
        """UTF-8."""
        return text.encode()

    def start(self, name: str, *, again: bool) -> tuple[Step, ...]:
        """``enable --now``, and a restart for one that ran by another unit."""
        started = (self._step("restart", f"{name}.service"),) if again else ()
        return (*self.enable(name), self._step("start", f"{name}.service"), *started)

    def enable(self, name: str) -> tuple[Step, ...]:
        """Without a start."""
        return (self._step("daemon-reload"), self._step("enable", f"{name}.service"))

    def remove(self, name: str) -> tuple[Step, ...]:
        """``disable --now`` waits for the stop."""
        return (self._step("disable", "--now", f"{name}.service"),)

    def removed(self) -> tuple[Step, ...]:
        """A unit that failed is remembered until it is reset."""
        return (self._step("daemon-reload"), self._step("reset-failed", needed=False))

    def enabled(self, name: str) -> Step:
        """One question."""
        return self._step("is-enabled", "--quiet", f"{name}.service")

    def active(self, name: str) -> Step:
        """One question."""
        return self._step("is-active", "--quiet", f"{name}.service")

    def logs(self, service: str, log_dir: Path) -> str:  # noqa: ARG002 - journald keeps them
        """Those of its journal."""
        return f"journalctl {'' if self.system else '--user '}-u {service}"

    def _step(self, *arguments: str, needed: bool = True) -> Step:
        return Step(("systemctl", *(() if self.system else ("--user",)), *arguments), needed)


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    escaped = _plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _argument(text: str) -> str:
    # A dollar would be taken for a variable in a command line, not elsewhere.
    return _quoted(text.replace("$", "$$"))
