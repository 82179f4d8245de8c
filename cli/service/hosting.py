"""Which service a host would be, on this machine: whose, by which manager, with which files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.service.contract import Manager
from cli.service.description import HOST_LOG, Account, Description, carried, name_of, stop_s
from cli.service.installing import account_of
from cli.service.launchd import Launchd
from cli.service.scheduled_task import ScheduledTask
from cli.service.systemd import Systemd
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, InvalidRequestError
from swarmplane.settings.directories import config_file, default_data_dir
from swarmplane.settings.keys import find_key
from swarmplane.settings.layers import PREFIX
from swarmplane.settings.load import load
from swarmplane.settings.schema import Settings

_ACCESS: Final = "log.access"
_NAMED: Final = f"{PREFIX}DATA_DIR"


@dataclass(frozen=True, slots=True)
class Hosting:
    """A host and the service that it is, or would be."""

    manager: Manager
    account: Account
    data_dir: DataDir
    environ: Mapping[str, str]
    """What the service will find around it, as far as directories follow from it."""

    @property
    def name(self) -> str:
        """The service's."""
        return name_of(self.data_dir.root, default_data_dir(self.environ))

    @property
    def config_file(self) -> Path:
        """The host's ``config.toml``."""
        return config_file(self.data_dir.root, self.environ)

    @property
    def log_dir(self) -> Path:
        """Where files of logs are: the platform's place for them, one folder for each service."""
        if sys.platform != "darwin":
            return self.data_dir.logs
        return self.account.home / "Library" / "Logs" / self.name

    @property
    def host_log(self) -> Path:
        """The file that the host's words go to, where the manager does not keep them itself."""
        return self.log_dir / HOST_LOG

    @property
    def installed(self) -> bool:
        """Whether it is described to the manager."""
        return self.manager.file(self.name).exists()

    @property
    def log_hint(self) -> str:
        """How people read what it says."""
        return self.manager.logs(self.name, self.log_dir)

    def settings(self, overrides: Sequence[str] = ()) -> Settings:
        """As the service reads them."""
        return load(self.data_dir.root, overrides, self.environ)

    def describe(self, overrides: Sequence[str], passed: Sequence[str]) -> Description:
        """The service.

        Args:
            overrides: Settings of the command line.
            passed: Those of them that ``config.toml`` does not keep.

        Raises:
            InvalidRequestError: A setting is wrong, or contradicts another one.
        """
        settings = self.settings(overrides)
        if settings.swarm.open and not settings.node.lan:
            raise InvalidRequestError("--open lets hosts of the network in, so it needs --lan")
        command = [sys.executable, "-m", "cli.main", "up", "--data-dir", str(self.data_dir.root)]
        for override in passed:
            command += ["--set", override]
        if not all(map(str.isprintable, command)):
            raise InvalidRequestError("a service's directory and settings can't have line breaks in them")
        return Description(
            name=self.name,
            command=tuple(command),
            data_dir=self.data_dir.root,
            account=self.account,
            environment=carried(self.environ),
            log_dir=self.log_dir,
            stop_s=stop_s(settings.drain_s),
        )

    def stop_s(self) -> int:
        """Longest time that a stop takes."""
        return stop_s(self.settings().drain_s)

    def access_log(self) -> tuple[str, ...]:
        """The setting that turns the access log on, which a service keeps; none where somebody set it."""
        return () if self.settings().log.access else (f"{_ACCESS}={self._access_file}",)

    def access_log_kept(self) -> tuple[str, ...]:
        """The key of :meth:`access_log`, where it stands as that wrote it."""
        return (_ACCESS,) if self.settings().log.access == str(self._access_file) else ()

    def ignored_variables(self) -> tuple[str, ...]:
        """Settings of this shell that the service does not get."""
        names = [name.removeprefix(PREFIX).lower().replace("__", ".") for name in os.environ]
        return tuple(
            variable
            for variable, path in zip(os.environ, names, strict=True)
            if variable.startswith(PREFIX) and "." in path and find_key(path) is not None
        )

    def lingering_hint(self) -> str:
        """What to do that a user's service outlives the login; empty where it does, or none is one."""
        if self.manager.system or Path("/var/lib/systemd/linger", self.account.name).exists():
            return ""
        return (
            f"it ends when {self.account.name} logs out, unless: loginctl enable-linger {self.account.name}"
        )

    @property
    def _access_file(self) -> Path:
        return self.log_dir / "access.log"


def hosting(named_data_dir: Path | None, *, system: bool | None, run_as: str = "") -> Hosting:
    """The service of the host in ``named_data_dir``, or in its user's own place.

    Args:
        named_data_dir: As given on the command line.
        system: Whether it is to be one of the machine; None: for root only, where there is a choice.
        run_as: User that it runs as; empty: found out.

    Raises:
        SwarmError: This platform can't, there is no such user, or the choice makes no sense.
    """
    if system is None:
        system = sys.platform != "linux" or os.geteuid() == 0
    if not system and sys.platform != "linux":
        raise FailedPreconditionError(
            "only systemd has services of a user; here it is one of the machine that runs as a user"
        )
    account = account_of(os.environ, run_as, system=system)
    own = account_of(os.environ, "", system=False)
    environ = dict(os.environ)
    if account != own:
        if not system:
            raise InvalidRequestError("--run-as needs a service of the machine: --system")
        environ = {"PATH": os.environ.get("PATH", ""), "HOME": str(account.home)}
    environ = {name: text for name, text in environ.items() if not name.startswith(PREFIX)}
    # A directory that this shell names is meant, though the service itself won't see the variable.
    named = named_data_dir or (default_data_dir() if _NAMED in os.environ and account == own else None)
    data_dir = DataDir(named or default_data_dir(environ))
    return Hosting(_manager(account, data_dir, environ, system=system), account, data_dir, environ)


def installed_hosting(named_data_dir: Path | None, *, system: bool | None) -> Hosting:
    """As :func:`hosting`; without a wish, the one of two managers that has the service.

    Raises:
        SwarmError: As :func:`hosting`.
    """
    first = hosting(named_data_dir, system=system)
    if system is not None or sys.platform != "linux" or first.installed:
        return first
    other = hosting(named_data_dir, system=not first.manager.system)
    return other if other.installed else first


def _manager(account: Account, data_dir: DataDir, environ: Mapping[str, str], *, system: bool) -> Manager:
    if sys.platform == "darwin":
        return Launchd()
    if sys.platform == "win32":
        return ScheduledTask(data_dir.root / "service")
    if sys.platform != "linux":
        raise FailedPreconditionError(
            "services are made for systemd, launchd and the Windows Task Scheduler; here run `swarmctl up`"
        )
    return Systemd.of_machine() if system else Systemd.of_user(environ, account.home)
