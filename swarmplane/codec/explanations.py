"""Explanations on the wire."""

from __future__ import annotations

from swarmplane.explanation import ExplainedEndpoint, RouteExplanation
from swarmplane.ids import EndpointId, ModelName, NodeId
from swarmplane.v1 import route_pb2 as pb


def explanation_to_pb(explanation: RouteExplanation) -> pb.RouteExplanation:
    """``explanation`` as a message."""
    return pb.RouteExplanation(
        model=explanation.model,
        strategy=explanation.strategy,
        prompt_tokens=explanation.prompt_tokens,
        endpoints=[
            pb.ExplainedEndpoint(
                id=one.id,
                node_id=one.node,
                node_name=one.node_name,
                backend=one.backend,
                excluded=one.excluded,
                cost_s=one.cost_s,
                terms=one.terms,
                phase=one.phase,
                in_flight=one.in_flight,
                queued=one.queued,
                slots=one.slots,
                load_known=one.load_known,
                suspect=one.suspect,
            )
            for one in explanation.endpoints
        ],
        node_id=explanation.node or "",
        node_name=explanation.node_name,
    )


def explanation_from_pb(message: pb.RouteExplanation) -> RouteExplanation:
    """The explanation in ``message``."""
    return RouteExplanation(
        ModelName(message.model),
        message.strategy,
        message.prompt_tokens,
        tuple(
            ExplainedEndpoint(
                EndpointId(one.id),
                NodeId(one.node_id),
                one.node_name,
                one.backend,
                one.excluded,
                one.cost_s,
                dict(one.terms),
                one.phase,
                one.in_flight,
                one.queued,
                one.slots,
                one.load_known,
                one.suspect,
            )
            for one in message.endpoints
        ),
        NodeId(message.node_id),
        message.node_name,
    )
