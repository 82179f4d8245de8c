"""Prometheus text of an instance's figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from controlplane.services.measured_store import BOUNDS_S, Durations

NODE_STATES: Final = ("live", "suspect", "gone", "never")


@dataclass(frozen=True, slots=True)
class Figures:
    """What is shown at one moment."""

    version: str
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Nodes by state."""
    nacks: int = 0
    """Updates that sidecars refused, since the start."""
    pushes: int = 0
    """Tables and differences sent, since the start."""
    store: Mapping[str, Durations] = field(default_factory=dict)
    """By operation."""


def render(figures: Figures) -> str:
    """The whole page."""
    return "".join(f"{line}\n" for line in _lines(figures))


def _lines(figures: Figures) -> Iterator[str]:
    yield from _head("swarmplane_build_info", "gauge", "Version of this instance's software.")
    yield f'swarmplane_build_info{{version="{_escaped(figures.version)}"}} 1'
    yield from _head("swarmplane_nodes", "gauge", "Enrolled nodes, by state.")
    for state in NODE_STATES:
        yield f'swarmplane_nodes{{state="{state}"}} {figures.nodes.get(state, 0)}'
    yield from _head("swarmplane_pushes_total", "counter", "Route updates sent to sidecars.")
    yield f"swarmplane_pushes_total {figures.pushes}"
    yield from _head("swarmplane_nacks_total", "counter", "Route updates that sidecars refused.")
    yield f"swarmplane_nacks_total {figures.nacks}"
    yield from _head("swarmplane_store_seconds", "histogram", "Duration of calls of the store, by operation.")
    for operation, durations in figures.store.items():
        yield from _histogram("swarmplane_store_seconds", f'op="{_escaped(operation)}"', durations)


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"


def _histogram(name: str, label: str, durations: Durations) -> Iterator[str]:
    counts = list(accumulate(durations.buckets))
    for bound_s, count in zip((*BOUNDS_S, "+Inf"), counts, strict=True):
        yield f'{name}_bucket{{{label},le="{bound_s}"}} {count}'
    yield f"{name}_sum{{{label}}} {durations.sum_s:.6f}"
    yield f"{name}_count{{{label}}} {counts[-1]}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
