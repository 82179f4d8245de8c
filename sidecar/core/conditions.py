"""What owners tell of their hosts, as facts that candidates are priced by."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidecar.core.candidate import UNKNOWN_FACTS, Facts, Warmth
from sidecar.core.residents import Resident
from swarmplane import conditions
from swarmplane.conditions import Condition, EndpointCondition
from swarmplane.ids import EndpointId

SCARCE_SHARE: Final = 0.1
"""With less of its memory free than this, a host is short of it."""
SHORT: Final = 0.8
"""Pressure from which on a host counts as short of memory."""
STALLED_SHARE: Final = 0.2
"""A host whose programs wait for memory for so much of the time is at full pressure."""
_WARMTHS: Final[Mapping[str, Warmth]] = MappingProxyType(
    {
        conditions.LOADED: Warmth.LOADED,
        conditions.LOADING: Warmth.LOADING,
        conditions.RECENT: Warmth.RECENT,
        conditions.COLD: Warmth.COLD,
    }
)


def facts_of(condition: Condition, *, own: bool) -> Mapping[EndpointId, Facts]:
    """Facts by endpoint. What is unknown neither costs nor excludes.

    ``own``: of this very host; that its owner works at it is no reason to send the owner's requests away.
    """
    return {one.endpoint: _facts(condition, one, own=own) for one in condition.endpoints}


def host_facts(condition: Condition, *, own: bool) -> Facts:
    """Facts of an endpoint that the condition does not name."""
    return _facts(condition, _NOTHING, own=own)


_NOTHING: Final = EndpointCondition(EndpointId(""))


def _facts(condition: Condition, one: EndpointCondition, *, own: bool) -> Facts:
    found = Facts(
        warmth=_WARMTHS.get(one.warmth, Warmth.LOADED),
        load_left_s=one.load_left_s,
        size_bytes=one.size_bytes,
        free_bytes=-1 if condition.free_bytes is None else condition.free_bytes,
        memory_bytes=condition.memory_bytes or 0,
        pressure=condition.pressure or 0.0,
        owner_active=bool(condition.owner_active) and not own,
        overheated=bool(condition.overheated),
        kv_used=-1.0 if one.kv_used is None else one.kv_used,
        tokens_per_s=one.tokens_per_s,
        resident=_resident(one),
    )
    return UNKNOWN_FACTS if found == UNKNOWN_FACTS else found


def _resident(one: EndpointCondition) -> Resident | None:
    if not one.resident_context:
        return None
    return Resident(one.resident_context, one.expires_at_s, one.vram_bytes)


def pressure_of(available_bytes: int, total_bytes: int, stalled: float | None) -> float | None:
    """How short of memory a host is, 0 to 1; None where nothing is known.

    Up to 0.8 it is the share in use, which is no hardship: what is free is there to be used. Beyond, the last
    tenth of the memory is being used up, or programs wait for memory.

    Args:
        available_bytes: What programs could have without swapping.
        total_bytes: 0: unknown.
        stalled: Share of the time in which some program waited for memory; None: unknown.
    """
    if total_bytes <= 0:
        return None
    left = max(available_bytes, 0) / total_bytes
    pressure = min(1.0 - left, SHORT)
    if left < SCARCE_SHARE:
        pressure = SHORT + (1.0 - SHORT) * (1.0 - left / SCARCE_SHARE)
    if stalled is not None and stalled > 0.0:
        pressure = max(pressure, SHORT + (1.0 - SHORT) * stalled / STALLED_SHARE)
    return min(max(pressure, 0.0), 1.0)
