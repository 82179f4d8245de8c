"""What an endpoint carries, counted by the node at which requests entered (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from swarmplane.ids import EndpointId

FRESH_S: Final = 3.0
"""A report older than this is unknown."""


@dataclass(frozen=True, slots=True)
class EndpointLoad:
    """An owner's report of one of its endpoints."""

    endpoint: EndpointId
    in_flight_by_origin: Mapping[str, int]
    queued: int = 0
    slots: int = 0
    """0 where unknown."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A report and when it came, on this process's clock."""

    load: EndpointLoad
    received_s: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sender believes an endpoint carries."""

    in_flight: int
    queued: int = 0
    slots: int = 0
    known: bool = False


def estimate(seen: Seen | None, *, own: int, origin: str, now_s: float) -> Estimate:
    """The load of another node's endpoint, as ``origin`` sees it at ``now_s``.

    The report's entry for ``origin`` is late; ``own``, the exact number of its requests there, replaces it.
    Without a fresh report only ``own`` is known.
    """
    if seen is None or now_s - seen.received_s > FRESH_S:
        return Estimate(own, slots=seen.load.slots if seen else 0)
    others = sum(n for node, n in seen.load.in_flight_by_origin.items() if node != origin)
    return Estimate(others + own, seen.load.queued, seen.load.slots, known=True)


def format_load(load: EndpointLoad) -> str:
    """Value of ``x-swarm-load``: ``queued;slots;origin=n,origin=n``. The request says of which endpoint."""
    return load_text(load.in_flight_by_origin, load.queued, load.slots)


def load_text(in_flight_by_origin: Mapping[str, int], queued: int, slots: int) -> str:
    """As :func:`format_load`, from the figures themselves."""
    parts = ",".join([f"{origin}={n}" for origin, n in in_flight_by_origin.items() if n])
    return f"{queued};{slots};{parts}"


def parse_load(endpoint: EndpointId, text: str) -> EndpointLoad | None:
    """Read :func:`format_load`'s text; None if it is malformed."""
    fields = text.strip().split(";")
    if len(fields) != 3 or len(text) > _LONGEST:  # noqa: PLR2004
        return None
    pairs = [part.rpartition("=") for part in fields[2].split(",") if part]
    numbers = [fields[0], fields[1], *(n for _, _, n in pairs)]
    if not all(n.isascii() and n.isdigit() and len(n) < _DIGITS for n in numbers):
        return None
    return EndpointLoad(endpoint, {origin: int(n) for origin, _, n in pairs}, int(fields[0]), int(fields[1]))


_LONGEST: Final = 64 * 1024
_DIGITS: Final = 10
