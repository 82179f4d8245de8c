"""What an upstream's request to wait means, and whom it binds (PROTOCOL section 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from sidecar.core.backoff import doubling_s

MOST_S: Final = 300.0
"""More is not believed: a backend that wants longer is asked again after this."""
OWN_HOLD_S: Final = 3.0
"""An owner's "full" is believed for this long: its load reports are fresher than that."""
SILENT_BASE_S: Final = 0.5
SILENT_CAP_S: Final = 15.0
_NUMBER: Final = re.compile(r"\d{1,9}(\.\d{1,9})?\Z")
_PARTS: Final = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?\Z")
_RESETS: Final = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")


def asked_wait_s(headers: Mapping[str, str]) -> float:
    """Seconds for which an answer with these ``headers`` (names in lower case) asks not to be asked; 0: none.

    Reads ``retry-after-ms``, ``retry-after`` (seconds, or a date, taken relative to the answer's own
    ``date``, so that nobody's clock matters) and, without those, the longest reset of a used-up limit.
    At most :data:`MOST_S`. What can't be read counts as absent.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _NUMBER.match(milliseconds):
        return min(float(milliseconds) / 1000.0, MOST_S)
    text = headers.get("retry-after", "").strip()
    if text:
        return min(float(text) if _NUMBER.match(text) else _until_s(text, headers.get("date", "")), MOST_S)
    waits = [_duration_s(headers.get(name, "").strip()) for name in _RESETS if _used_up(headers, name)]
    return min(max(waits, default=0.0), MOST_S)


def _used_up(headers: Mapping[str, str], reset: str) -> bool:
    return headers.get(reset.replace("reset", "remaining"), "").strip() == "0"


def _until_s(text: str, date: str) -> float:
    try:
        return max((parsedate_to_datetime(text) - parsedate_to_datetime(date)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # TypeError: only one of the two names its zone
        return 0.0


def _duration_s(text: str) -> float:
    """``6m0s``, ``1.5s``, ``20ms`` or plain seconds."""
    if _NUMBER.match(text):
        return float(text)
    match = _PARTS.match(text)
    if match is None:
        return 0.0
    hours, minutes, seconds, milliseconds = (float(part or 0.0) for part in match.groups())
    return hours * 3600.0 + minutes * 60.0 + seconds + milliseconds / 1000.0


def hold_s(wait_s: float, *, owner_said: bool, times: int, draw: float) -> float:
    """How long not to ask the one endpoint that answered "full"; others are never bound by it.

    Args:
        wait_s: From :func:`asked_wait_s`, or the owner's expected wait; 0: it named none.
        owner_said: A peer's refusal, not a backend's or provider's answer.
        times: "Full" answers in a row before this one; a silent backend is held for longer each time.
        draw: Uniform in [0, 1): up to half more, so that senders do not return together.
    """
    if not wait_s:
        wait_s = doubling_s(times, base_s=SILENT_BASE_S, cap_s=SILENT_CAP_S)
    limit_s = OWN_HOLD_S if owner_said else MOST_S
    return min(wait_s, limit_s) * (1.0 + draw / 2.0)
