"""Envoy's response flags for a request that ended: two or three letters that say what went wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidecar.telemetry import record as records
from sidecar.telemetry.record import Record
from swarmplane.errors import Code

_BY_CODE: Final[Mapping[str, str]] = MappingProxyType(
    {
        Code.MODEL_NOT_FOUND.slug: "NR",
        Code.NOT_FOUND.slug: "NR",
        Code.NO_REPLICA.slug: "UH",
        Code.MODEL_LOADING.slug: "UH",
        Code.DRAINING.slug: "UH",
        Code.SATURATED.slug: "UO",
        Code.RATE_LIMIT_EXCEEDED.slug: "RL",
        Code.INVALID_API_KEY.slug: "UAEX",
        Code.UNAUTHENTICATED.slug: "UAEX",
        Code.FORBIDDEN.slug: "UAEX",
        Code.LOOP.slug: "IH",
        Code.REQUEST_TIMEOUT.slug: "SI",
        Code.REQUEST_TOO_LARGE.slug: "DPE",
        Code.HEAD_TOO_LARGE.slug: "DPE",
        Code.INTERNAL.slug: "LR",
        Code.UNAVAILABLE.slug: "OM",
    }
)
_BY_FAILURE: Final[Mapping[str, str]] = MappingProxyType(
    {
        records.CONNECT_FAILED: "UF",
        records.CONNECTION_LOST: "UC",
        records.TRUNCATED: "UR",
        records.FIRST_BYTE_TIMEOUT: "UT",
        records.STALLED: "SI",
        records.CLIENT_STALLED: "SI",
        records.DEADLINE: "DT",
        records.STOPPED: "LR",
        records.MALFORMED: "DPE",
        records.BAD_STATUS: "",
    }
)
NONE: Final = "-"
_GAVE_UP: Final = frozenset({Code.UPSTREAM_FAILED.slug, Code.UPSTREAM_TIMEOUT.slug})


def response_flags(record: Record) -> str:
    """The flags, joined by commas; ``-`` for none.

    DC client left · DPE malformed or too large · DT the request's own time was over · IH loop · LR ended by
    us: a stop, or a fault of ours · NR no such model · OM too many bodies held · RL key's limit · SI silence
    · UAEX not allowed · UC connection lost · UF connect failed · UH nobody ready · UO everybody full · UR
    answer cut off · URX attempts used up · UT first byte late. A failure that another endpoint made good
    leaves none: ``attempts`` tells it.
    """
    outcome = record.outcome
    if outcome == records.COMPLETED:
        return NONE
    found: list[str] = []
    if outcome == records.CANCELLED:
        found.append("SI" if record.failure == records.CLIENT_STALLED else "DC")
    elif outcome == records.BROKEN:
        found.append(_BY_FAILURE.get(record.failure, "UC") or "UC")
    else:
        by_code = _BY_CODE.get(record.code)
        if by_code is not None:
            found.append(by_code)
        by_failure = _BY_FAILURE.get(record.failure)
        if by_failure:
            found.append(by_failure)
        if record.code in _GAVE_UP and record.attempts > 1:
            found.append("URX")
    return ",".join(dict.fromkeys(found)) or NONE
