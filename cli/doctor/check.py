"""What a check is: a fact, how it is gathered, and the verdict on it. See :mod:`cli.doctor.checks`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from cli.doctor.host import ExaminedHost

T = TypeVar("T")
Severity: TypeAlias = Literal["error", "warning", "info"]
LIMIT_S: Final = 5.0
"""Longest time that a fact is waited for."""


class SkippedError(Exception):
    """The question does not arise on this host; says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Source(Generic[T]):
    """Where a fact comes from. One source may serve several checks; it is asked once.

    A gatherer raises :class:`SkippedError` where the question does not arise, and lets SwarmError and OSError
    pass where the answer can't be had.
    """

    gather: Callable[[ExaminedHost], T] | None = None
    """Blocks; runs on a thread of its own, which is abandoned after ``limit_s``."""
    ask: Callable[[ExaminedHost], Awaitable[T]] | None = None
    """The same for what is asked on the event loop. One of the two is given."""
    limit_s: float = LIMIT_S


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a fact means."""

    ok: bool
    detail: str
    """What was found."""
    fix: str = ""
    """What to do about it; every verdict that is not ok says so."""
    severity: Severity | None = None
    """Where it is not that of the check."""


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """One row."""

    id: str
    """``group.what``: stable, scripts rely on it."""
    title: str
    source: Source[T]
    judge: Callable[[T], Verdict]
    """Pure."""
    severity: Severity = "warning"
    """Of a failure. An error: requests or the swarm suffer from it now; a warning: they may, or something
    stands open; info: something more would work."""

    @property
    def group(self) -> str:
        """Rows of one group stand together."""
        return self.id.partition(".")[0]


AnyCheck: TypeAlias = Check[Any]
State: TypeAlias = Literal["ok", "failed", "skipped", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """What came out of a check."""

    check: AnyCheck
    state: State
    detail: str
    fix: str
    severity: Severity

    @property
    def is_error(self) -> bool:
        """Whether the command fails because of it."""
        return self.state == "failed" and self.severity == "error"

    def document(self) -> dict[str, object]:
        """As ``--json`` prints it; ``ok`` is null where nothing was found out."""
        return {
            "id": self.check.id,
            "name": self.check.id,
            "group": self.check.group,
            "title": self.check.title,
            "ok": {"ok": True, "failed": False}.get(self.state),
            "state": self.state,
            "severity": self.severity,
            "detail": self.detail,
            "fix": self.fix,
        }


def good(detail: str) -> Verdict:
    """Nothing to do."""
    return Verdict(ok=True, detail=detail)


def bad(detail: str, fix: str, severity: Severity | None = None) -> Verdict:
    """Something to do."""
    return Verdict(ok=False, detail=detail, fix=fix, severity=severity)
