"""When to try the control plane again (PROTOCOL section 2). Pure."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.1
SOON_CAP_S: Final = 2.0
SOON_S: Final = 10.0
"""For so long after a loss tries stay close together: a restart takes no longer."""
LATE_CAP_S: Final = 15.0
_MOST_DOUBLINGS: Final = 16


def reconnect_delay_s(failures: int, lost_for_s: float, draw: float) -> float:
    """Seconds until the next try: full jitter below a cap that doubles from 0.1 s.

    Args:
        failures: Tries that failed since the stream was lost; 0 right after the loss.
        lost_for_s: Seconds since the loss.
        draw: Uniform in [0, 1).
    """
    cap_s = SOON_CAP_S if lost_for_s < SOON_S else LATE_CAP_S
    return draw * min(cap_s, FIRST_S * 2.0 ** min(failures, _MOST_DOUBLINGS))
