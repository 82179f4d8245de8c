"""Installing, removing and showing services: files, and commands of the system's service manager."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.service.contract import Manager, Step
from cli.service.description import Account, Description
from swarmplane.datadir import write_atomically
from swarmplane.errors import FailedPreconditionError, SwarmError, reason_of

_COMMAND_S: Final = 60.0

Run = Callable[[Step, float], subprocess.CompletedProcess[str]]
"""Runs a step for so many seconds at most; raises :class:`SwarmError` where it can't be run at all."""


def run(step: Step, within_s: float) -> subprocess.CompletedProcess[str]:
    """Run ``step``. It blocks.

    Raises:
        FailedPreconditionError: Its program is not there, or does not end.
    """
    try:
        return subprocess.run(  # noqa: S603 - the service manager, by its name
            step.command, capture_output=True, text=True, timeout=within_s, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise FailedPreconditionError(
            f"there is no {step.command[0]} on this machine; `--print` shows what it would be given"
        ) from None
    except subprocess.TimeoutExpired:
        raise FailedPreconditionError(f"`{' '.join(step.command)}` did not end in {within_s:g} s") from None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a service stands."""

    installed: bool
    enabled: bool = False
    active: bool = False


class Installer:
    """Services of ``manager``."""

    def __init__(self, manager: Manager, run_step: Run = run) -> None:
        self._manager = manager
        self._run = run_step

    def install(self, service: Description, *, start: bool) -> bool:
        """Make ``service`` stand as described, and run it; whether anything of its description changed.

        Raises:
            SwarmError: The file can't be written, or the manager refuses; says what to do.
        """
        manager, name = self._manager, service.name
        file, wanted = manager.file(name), manager.encoded(manager.text(service))
        before = _content(file)
        changed = before != wanted
        if changed:
            self._write(file, wanted)
        if start:
            again = changed and before is not None
            self._carry_out(manager.start(name, again=again), service.stop_s)
        else:
            self._carry_out(manager.enable(name), service.stop_s)
        return changed

    def remove(self, name: str, stop_s: int) -> bool:
        """Stop the service called ``name`` and forget it; whether there was one.

        Raises:
            SwarmError: The file can't be removed, or the manager refuses.
        """
        file = self._manager.file(name)
        if not file.exists():
            return False
        self._carry_out(self._manager.remove(name), stop_s)
        try:
            file.unlink()
        except OSError as error:
            raise _not_writable(file, error, self._manager) from None
        self._carry_out(self._manager.removed(), stop_s)
        return True

    def standing(self, name: str) -> Standing:
        """How the service called ``name`` stands.

        Raises:
            SwarmError: The manager can't be asked.
        """
        if not self._manager.file(name).exists():
            return Standing(installed=False)
        return Standing(
            True, self._holds(self._manager.enabled(name)), self._holds(self._manager.active(name))
        )

    def _holds(self, question: Step) -> bool:
        return self._run(question, _COMMAND_S).returncode == 0

    def _carry_out(self, steps: tuple[Step, ...], stop_s: int) -> None:
        for step in steps:
            # A start or a stop ends when the service is ready, or has ended.
            done = self._run(step, _COMMAND_S + 300.0 + stop_s)
            if done.returncode and step.needed:
                raise _refused(step, done, self._manager)

    def _write(self, file: Path, content: bytes) -> None:
        try:
            write_atomically(file, content, mode=0o644)
        except OSError as error:
            raise _not_writable(file, error, self._manager) from None


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _not_writable(file: Path, error: OSError, manager: Manager) -> SwarmError:
    hint = "; run it as an administrator (sudo)" if manager.system else ""
    return FailedPreconditionError(f"{file} can't be written: {reason_of(error)}{hint}")


def _refused(step: Step, done: subprocess.CompletedProcess[str], manager: Manager) -> SwarmError:
    said = (done.stderr or done.stdout).strip() or f"status {done.returncode}"
    hint = ""
    if not manager.system and "bus" in said:
        hint = "; log in as this user directly (not by su), or make it a service of the machine: --system"
    return FailedPreconditionError(f"`{' '.join(step.command)}` failed: {said}{hint}")


@contextlib.contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """Make files as ``account`` until the end of the block, where that is another one than this process's.

    Settings that an administrator writes for a service must be that user's.
    """
    ids = _other_ids(account)
    if ids is None:
        yield
        return
    user, group = ids
    before_group = os.getegid()
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before_group)


def _other_ids(account: Account) -> tuple[int, int] | None:
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    found = pwd.getpwnam(account.name)
    return (found.pw_uid, found.pw_gid) if found.pw_uid else None


def account_of(environ: Mapping[str, str], run_as: str, *, system: bool) -> Account:
    """Whom a service runs as: ``run_as``, else whoever called ``sudo``, else this process's user.

    Raises:
        FailedPreconditionError: There is no such user.
    """
    if os.name == "nt":
        domain, name = environ.get("USERDOMAIN", ""), run_as or environ.get("USERNAME", "")
        return Account(f"{domain}\\{name}" if domain and not run_as else name, Path.home())
    import pwd

    name = run_as or (environ.get("SUDO_USER", "") if system else "")
    try:
        found = pwd.getpwnam(name) if name else pwd.getpwuid(os.geteuid())
    except KeyError:
        raise FailedPreconditionError(f"there is no user {name or os.geteuid()} on this machine") from None
    own = found.pw_uid == os.geteuid()
    # As everything else of ours: directories follow HOME, where somebody set it.
    return Account(found.pw_name, Path((own and environ.get("HOME")) or found.pw_dir))
