"""Messages of the control plane as the JSON documents that ``swarmctl`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeAlias

from swarmplane.v1 import (
    common_pb2,
    election_pb2,
    model_pb2,
    node_pb2,
    operation_pb2,
    policy_pb2,
    route_pb2,
    token_pb2,
)

Document: TypeAlias = dict[str, object]


def node(message: node_pb2.Node) -> Document:
    """A node."""
    return {
        "id": message.id,
        "name": message.name,
        "state": message.state,
        "cordoned": message.cordoned,
        "founder": message.founder,
        "models": list(message.models),
        "labels": {label.key: label.value for label in message.labels},
        "peer_addresses": list(message.peer_addresses),
        "unreachable_reason": message.unreachable_reason,
        "client_url": message.client_url,
        "backends": [
            {
                "name": backend.name,
                "kind": backend.kind,
                "healthy": backend.healthy,
                "reason": backend.reason,
                "models": list(backend.models),
            }
            for backend in message.backends
        ],
        "software_version": message.software_version,
        "platform": message.platform,
        "memory_bytes": message.memory_bytes,
        "session": message.session,
        "instance_id": message.instance_id,
        "silent_s": round(message.silent_s, 3) if message.silent_s >= 0 else None,
        "push": {
            "sent": version(message.push.sent),
            "acked": version(message.push.acked),
            "nacked": version(message.push.nacked),
            "nack_reason": message.push.nack_reason,
        },
        "revision": message.revision,
    }


def operation(message: operation_pb2.Operation) -> Document:
    """An act that takes longer than a call."""
    return {
        "id": message.id,
        "name": message.id,
        "kind": message.kind,
        "subject": message.subject,
        "state": message.state,
        "progress": round(message.progress, 3),
        "eta_s": message.eta_s,
        "code": message.code,
        "message": message.message,
    }


def model(message: model_pb2.Model) -> Document:
    """A language model."""
    return {
        "name": message.name,
        "state": message.state,
        "aliases": list(message.aliases),
        "context_length": message.context_length,
        "size_bytes": message.size_bytes,
        "replicas": [
            {
                "node_id": replica.node_id,
                "node_name": replica.node_name,
                "backend": replica.backend,
                "state": replica.state,
                "slots": replica.slots,
            }
            for replica in message.replicas
        ],
        "revision": message.revision,
    }


def route(message: route_pb2.ModelRoute) -> Document:
    """A compiled route."""
    return {
        "name": message.name,
        "aliases": list(message.aliases),
        "strategy": message.strategy,
        "endpoints": [
            {
                "id": endpoint.id,
                "node_id": endpoint.node_id,
                "backend": endpoint.backend,
                "model": endpoint.model,
                "ready": endpoint.ready,
                "draining": endpoint.draining,
                "slots": endpoint.slots,
                "context_length": endpoint.context_length,
            }
            for endpoint in message.endpoints
        ],
        "revision": message.revision,
    }


def route_change(message: route_pb2.WatchRoutesResponse) -> Document:
    """One change of a watch: ``kind`` is ``put``, ``removed`` or ``bookmark``."""
    kind = message.WhichOneof("kind") or "bookmark"
    document: Document = {"kind": kind, "revision": message.revision}
    if kind == "put":
        document |= {"name": message.put.name, "route": route(message.put)}
    elif kind == "removed":
        document["name"] = message.removed
    return document


def election(message: election_pb2.Election) -> Document:
    """Who holds what; ``holder`` is empty while nobody does."""
    return {
        "name": message.name,
        "holder": message.holder,
        "epoch": message.epoch,
        "holder_addresses": list(message.holder_addresses),
        "elected_at": moment(message.elected_at_s),
        "candidates": list(message.candidates),
        "revision": message.revision,
    }


def election_change(message: election_pb2.WatchElectionsResponse) -> Document:
    """One change of a watch: ``kind`` is ``changed`` or ``bookmark``."""
    kind = message.WhichOneof("kind") or "bookmark"
    document: Document = {"kind": kind, "revision": message.revision}
    if kind == "changed":
        document |= {"name": message.changed.name, "election": election(message.changed)}
    return document


def policy(message: policy_pb2.Policy) -> Document:
    """What is set for a model, or for the swarm."""
    return {
        "name": message.model or "swarm",
        "model": message.model or None,
        "strategy": message.strategy or None,
        "revision": message.revision,
    }


def explanation(message: route_pb2.RouteExplanation) -> Document:
    """Whom a node would ask; items as the sidecar's own ``/explain`` has them, as far as they travel."""
    places = [one.id for one in message.endpoints if not one.excluded]
    return {
        "model": message.model,
        "strategy": message.strategy,
        "prompt_tokens": message.prompt_tokens,
        "asked_node": message.node_name,
        "items": [
            {
                "name": one.id,
                "id": one.id,
                "node": one.node_name,
                "node_id": one.node_id,
                "backend": one.backend,
                "excluded": one.excluded or None,
                "phase": one.phase,
                "suspect": one.suspect,
                "in_flight": one.in_flight,
                "queued": one.queued,
                "slots": one.slots,
                "load_known": one.load_known,
                "ewma_ttft_s": None,
                "cost": {"total_s": round(one.cost_s, 4), **_rounded(one.terms)},
                "place": None if one.excluded else places.index(one.id) + 1,
            }
            for one in message.endpoints
        ],
        "last": {"strategy": "", "items": []},
    }


def _rounded(terms: Mapping[str, float]) -> dict[str, float]:
    return {name: round(seconds, 4) for name, seconds in terms.items()}


def token(message: token_pb2.Token) -> Document:
    """A join token's facts, without its secret."""
    return {
        "id": message.id,
        "name": message.id,
        "role": message.role,
        "uses": message.uses,
        "used": message.used,
        "state": message.state,
        "created_at": moment(message.created_at_s),
        "created_by": message.created_by,
        "expires_at": moment(message.expires_at_s),
        "revision": message.revision,
    }


def version(message: common_pb2.Version) -> str:
    """``generation.revision``."""
    return f"{message.generation}.{message.revision}"


def moment(unix_s: int) -> str | None:
    """RFC 3339 in UTC; None for never."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if unix_s else None
