"""When an engine that ended is started again. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from sidecar.core.backoff import doubling_s

BASE_S: Final = 1.0
CAP_S: Final = 30.0
FORGIVEN_S: Final = 60.0
"""An engine that ran this long starts with a clean record."""
GIVEN_UP: Final = 4
"""Failures in a row after which clients are no longer told to wait for it. It is still started again."""


@dataclass(frozen=True, slots=True)
class Record:
    """Ends in a row, and starts in all."""

    failures: int = 0
    restarts: int = 0

    def ended(self, ran_s: float) -> Record:
        """The record after a process that ran ``ran_s`` seconds and ended by itself."""
        failures = 0 if ran_s >= FORGIVEN_S else self.failures
        return Record(failures + 1, self.restarts + 1)

    @property
    def delay_s(self) -> float:
        """Seconds to wait before the next start: 1, 2, 4… up to 30."""
        return doubling_s(max(self.failures - 1, 0), base_s=BASE_S, cap_s=CAP_S)

    @property
    def hopeless(self) -> bool:
        """Whether it ends again and again."""
        return self.failures >= GIVEN_UP


def describe_exit(code: int | None) -> str:
    """What an exit code means, for people."""
    if code is None:
        return "its guard was killed, and it with it"
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
