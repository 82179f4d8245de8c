"""How many files and connections this process may have open at a time."""

from __future__ import annotations

import sys
from typing import Final

MOST: Final = 1_048_576
"""No more is asked for where the hard limit is infinite."""
_APPLE_MOST: Final = 10_240
"""``OPEN_MAX``: what ``setrlimit(2)`` of macOS accepts at least where the hard limit says infinity."""


def raise_open_files() -> int | None:
    """Lift the soft limit to the hard one, as servers do; what we start inherits it.

    Shells and service managers hand out 256 to 1024, for the sake of programs that use ``select``.

    Returns:
        The limit in force from now on; None where there is no such limit (Windows).
    """
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in wanted_limits(soft, hard, endless=resource.RLIM_INFINITY):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue  # a kernel's own bound, below the hard limit
        return wanted
    return soft


def wanted_limits(soft: int, hard: int, *, endless: int) -> tuple[int, ...]:
    """The soft limits to try, the highest first; empty if ``soft`` is as high as it can get.

    Args:
        soft: In force now.
        hard: The bound of ``soft``.
        endless: The value of either that means no bound.
    """
    if soft == endless:
        return ()
    bound = MOST if hard == endless else hard
    return tuple(limit for limit in (bound, min(bound, _APPLE_MOST)) if limit > soft)
