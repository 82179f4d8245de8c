"""Whom a node would ask for a model and why not the others, as a value that travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from swarmplane.ids import EndpointId, ModelName, NodeId


@dataclass(frozen=True, slots=True)
class ExplainedEndpoint:
    """One candidate."""

    id: EndpointId
    node: NodeId
    node_name: str
    backend: str
    excluded: str = ""
    """Why it would not be asked; empty: it may be."""
    cost_s: float = 0.0
    terms: Mapping[str, float] | None = None
    """Parts of the cost that are not 0, in seconds."""
    phase: str = ""
    in_flight: int = 0
    queued: int = 0
    slots: int = 0
    load_known: bool = False
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class RouteExplanation:
    """``endpoints``: cheapest first, those left out last."""

    model: ModelName
    strategy: str
    prompt_tokens: int
    endpoints: tuple[ExplainedEndpoint, ...] = ()
    node: NodeId | None = None
    """Whose view it is."""
    node_name: str = ""
