"""How long to wait before trying again."""

from __future__ import annotations

from typing import Final

RETRY_BASE_S: Final = 0.025
RETRY_CAP_S: Final = 0.25
_MAX_DOUBLINGS: Final = 32
"""2.0 ** 1024 overflows."""
LEAST_RETRY_AFTER_S: Final = 1
MOST_RETRY_AFTER_S: Final = 60


def doubling_s(times: int, *, base_s: float, cap_s: float) -> float:
    """``base_s`` doubled ``times`` times, at most ``cap_s``: restarts, ejections, reconnects."""
    return min(base_s * 2.0 ** min(times, _MAX_DOUBLINGS), cap_s)


def full_jitter_s(failures: int, draw: float) -> float:
    """Wait before the retry after the ``failures``-th failure: uniform below a bound that doubles."""
    bound_s = RETRY_BASE_S * (2.0 ** min(failures, _MAX_DOUBLINGS) - 1.0)
    return draw * min(bound_s, RETRY_CAP_S)


def retry_after_s(wait_s: float, draw: float) -> int:
    """Value of ``Retry-After``: up to half more than ``wait_s``, whole seconds from 1 to 60.

    The spread keeps refused clients from coming back together.
    """
    spread_s = wait_s * (1.0 + draw / 2.0)
    return max(LEAST_RETRY_AFTER_S, min(round(spread_s), MOST_RETRY_AFTER_S))
