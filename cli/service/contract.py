"""What every operating system's service manager is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cli.service.description import Description


@dataclass(frozen=True, slots=True)
class Step:
    """A command to run."""

    command: tuple[str, ...]
    needed: bool = True
    """Whether its failure is one of the whole act."""


class Manager(Protocol):
    """Describes services in files, and takes commands about them. Nothing here acts by itself."""

    @property
    def title(self) -> str:
        """For people, as ``systemd (user)``."""

    @property
    def system(self) -> bool:
        """Whether services belong to the machine, so that only an administrator changes them."""

    def file(self, name: str) -> Path:
        """Where the service called ``name`` is described."""

    def text(self, service: Description) -> str:
        """What stands in that file; the same for the same service."""

    def encoded(self, text: str) -> bytes:
        """The file's bytes."""

    def start(self, name: str, *, again: bool) -> tuple[Step, ...]:
        """Read the file, run the service now and at every boot; ``again``: it ran as it was before."""

    def enable(self, name: str) -> tuple[Step, ...]:
        """Read the file, and run the service from the next boot on."""

    def remove(self, name: str) -> tuple[Step, ...]:
        """Stop the service and forget it; run before the file is deleted."""

    def removed(self) -> tuple[Step, ...]:
        """Run after the file is deleted."""

    def enabled(self, name: str) -> Step:
        """Ends with 0 where it runs at every boot."""

    def active(self, name: str) -> Step:
        """Ends with 0 where the manager has it running, or would start it again."""

    def logs(self, service: str, log_dir: Path) -> str:
        """How people read what it says."""
