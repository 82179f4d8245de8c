"""Families of metrics under OpenTelemetry's names: what they are called, their units and attributes. Pure.

Where a semantic convention has a name for what a family counts, that name is used; else the family's own,
with dots. Label values stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from swarmplane.exposition import Family, Sample

_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "swarmplane_request_duration_seconds": "gen_ai.server.request.duration",
        "swarmplane_time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
        "swarmplane_time_per_output_token_seconds": "gen_ai.server.time_per_output_token",
    }
)
_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType(
    {"model": "gen_ai.request.model", "direction": "gen_ai.token.type", "version": "service.version"}
)
_UNITS: Final[Mapping[str, str]] = MappingProxyType({"seconds": "s", "bytes": "By", "ratio": "1", "": "1"})


@dataclass(frozen=True, slots=True)
class Distribution:
    """One histogram of a family."""

    attributes: Mapping[str, str]
    count: int
    total: float
    counts: tuple[int, ...]
    """Per bucket, not cumulated; one more than there are bounds."""
    bounds: tuple[float, ...]


def name_of(family: Family) -> str:
    """The instrument's name."""
    known = _NAMES.get(family.name)
    if known is not None:
        return known
    first, _, rest = family.name.removesuffix("_total").partition("_")
    unit = family.unit
    return f"{first}.{rest.removesuffix(f'_{unit}') if unit else rest}"


def unit_of(family: Family) -> str:
    """The instrument's unit, as UCUM writes it."""
    return _UNITS[family.unit]


def attributes_of(labels: Mapping[str, str]) -> Mapping[str, str]:
    """The attributes that stand for ``labels``; those without a value are left out."""
    return {_ATTRIBUTES.get(name, f"swarm.{name}"): value for name, value in labels.items() if value}


def distributions(family: Family) -> Iterator[Distribution]:
    """The histograms of ``family``, which lists each as buckets, sum and count."""
    edges: list[tuple[float, int]] = []
    total = 0.0
    for sample in family.samples:
        if sample.suffix == "_bucket":
            edges.append((float(sample.labels["le"].replace("+Inf", "inf")), int(sample.value)))
        elif sample.suffix == "_sum":
            total = sample.value
        else:
            yield _distribution(sample, edges, total)
            edges = []


def _distribution(count: Sample, edges: list[tuple[float, int]], total: float) -> Distribution:
    reached = [0, *(below for _, below in edges)]
    return Distribution(
        attributes_of(count.labels),
        int(count.value),
        total,
        tuple(after - before for before, after in pairwise(reached)),
        tuple(bound for bound, _ in edges[:-1]),
    )
