"""What the control plane tells as the JSON documents that ``swarmctl`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeAlias

from swarmplane.aliases import is_pattern
from swarmplane.client import (
    Alias,
    Change,
    Election,
    Enrolment,
    Event,
    FallbackPolicy,
    FallbackRule,
    Key,
    Model,
    ModelRoute,
    Node,
    Operation,
    Policy,
    RouteExplanation,
    Token,
)
from swarmplane.conditions import Condition

Document: TypeAlias = dict[str, object]


def node(found: Node) -> Document:
    """A node."""
    return {
        "id": found.id,
        "name": found.name,
        "state": found.state,
        "cordoned": found.cordoned,
        "founder": found.founder,
        "models": list(found.models),
        "labels": dict(found.labels),
        "peer_addresses": list(found.peer_addresses),
        "unreachable_reason": found.unreachable_reason,
        "client_url": found.client_url,
        "backends": [
            {
                "name": backend.name,
                "kind": backend.kind,
                "healthy": backend.healthy,
                "reason": backend.reason,
                "models": list(backend.models),
            }
            for backend in found.backends
        ],
        "software_version": found.software_version,
        "platform": found.platform,
        "memory_bytes": found.memory_bytes,
        "cpu": found.cpu,
        "cpus": found.cpus,
        "gpus": None
        if found.gpus is None
        else [{"name": one.name, "kind": one.kind, "memory_bytes": one.memory_bytes} for one in found.gpus],
        "disk_bytes": found.disk_bytes,
        "gateway_url": found.gateway_url,
        "condition": None if found.condition is None else _condition(found.condition),
        "session": found.session,
        "instance_id": found.instance_id,
        "silent_s": round(found.silent_s, 3) if found.silent_s is not None else None,
        "push": {
            "sent": str(found.push.sent),
            "acked": str(found.push.acked),
            "nacked": str(found.push.nacked),
            "nack_reason": found.push.nack_reason,
        },
        "revision": found.revision,
    }


def _condition(found: Condition) -> Document:
    """How a host is now; null: unknown."""
    return {
        "free_bytes": found.free_bytes,
        "memory_bytes": found.memory_bytes,
        "pressure": found.pressure,
        "owner_active": found.owner_active,
        "overheated": found.overheated,
        "disk_free_bytes": found.disk_free_bytes,
        "battery_percent": found.battery_percent,
        "on_battery": found.on_battery,
    }


def operation(found: Operation) -> Document:
    """An act that takes longer than a call."""
    return {
        "id": found.id,
        "name": found.id,
        "kind": found.kind,
        "subject": found.subject,
        "state": found.state,
        "progress": round(found.progress, 3),
        "eta_s": found.eta_s,
        "code": found.code,
        "message": found.message,
    }


def model(found: Model) -> Document:
    """A language model."""
    return {
        "name": found.name,
        "state": found.state,
        "aliases": list(found.aliases),
        "context_length": found.context_length,
        "size_bytes": found.size_bytes,
        "digest": found.traits.digest or None,
        "family": found.traits.family or None,
        "parameter_size": found.traits.parameter_size or None,
        "quantization": found.traits.quantization or None,
        "trained_context": found.traits.trained_context,
        "capabilities": list(found.traits.capabilities),
        "replicas": [
            {
                "node_id": replica.node_id,
                "node_name": replica.node_name,
                "backend": replica.backend,
                "state": replica.state,
                "slots": replica.slots,
                "context_length": replica.context_length,
            }
            for replica in found.replicas
        ],
        "revision": found.revision,
    }


def alias(found: Alias) -> Document:
    """A further name of a model."""
    return {
        "name": found.name,
        "model": found.model,
        "state": found.state,
        "pattern": is_pattern(found.name),
        "revision": found.revision,
    }


def route(found: ModelRoute) -> Document:
    """A compiled route."""
    return {
        "name": found.name,
        "aliases": list(found.aliases),
        "strategy": found.strategy,
        "endpoints": [
            {
                "id": endpoint.id,
                "node_id": endpoint.node,
                "backend": endpoint.backend,
                "model": endpoint.model,
                "ready": endpoint.ready,
                "draining": endpoint.draining,
                "slots": endpoint.slots,
                "context_length": endpoint.context_length,
            }
            for endpoint in found.endpoints
        ],
        "revision": found.revision,
    }


def route_change(change: Change[ModelRoute]) -> Document:
    """One change of a watch: ``kind`` is ``put``, ``removed`` or ``bookmark``."""
    document: Document = {"kind": change.kind, "revision": change.revision}
    if change.kind != "bookmark":
        document["name"] = change.name
    if change.item is not None:
        document["route"] = route(change.item)
    return document


def election(found: Election) -> Document:
    """Who holds what; ``holder`` is empty while nobody does."""
    return {
        "name": found.name,
        "holder": found.holder,
        "epoch": found.epoch,
        "holder_addresses": list(found.holder_addresses),
        "elected_at": moment(found.elected_at_s),
        "candidates": list(found.candidates),
        "revision": found.revision,
    }


def election_change(change: Change[Election]) -> Document:
    """One change of a watch: ``kind`` is ``changed`` or ``bookmark``."""
    if change.item is None:
        return {"kind": "bookmark", "revision": change.revision}
    return {
        "kind": "changed",
        "revision": change.revision,
        "name": change.name,
        "election": election(change.item),
    }


def policy(found: Policy) -> Document:
    """What is set for a model, or for the swarm."""
    return {
        "name": found.model or "swarm",
        "model": found.model or None,
        "strategy": found.strategy or None,
        "fallbacks": list(found.chain) if found.model else [_rule(one) for one in found.fallbacks.rules],
        **({} if found.model else _of_the_swarm(found.fallbacks)),
        "context_protection": found.context or None,
        "revision": found.revision,
    }


def _of_the_swarm(fallbacks: FallbackPolicy) -> Document:
    return {"substitute_loaded": fallbacks.substitute_loaded, "auto_pull": list(fallbacks.auto_pull)}


def _rule(rule: FallbackRule) -> Document:
    return {
        "match": rule.match or None,
        "category": rule.category or None,
        "from_bytes": rule.from_bytes,
        "below_bytes": rule.below_bytes,
        "models": list(rule.models),
    }


def event(found: Event) -> Document:
    """Something that happened; ``bookmark`` and ``gap`` are kinds too."""
    return {
        "kind": found.kind,
        "revision": found.revision,
        "subject": found.subject,
        "name": found.name,
        "message": found.message,
    }


def explanation(found: RouteExplanation) -> Document:
    """Whom a node would ask; items as the sidecar's own ``/explain`` has them, as far as they travel."""
    places = [one.id for one in found.endpoints if not one.excluded]
    return {
        "model": found.model,
        "strategy": found.strategy,
        "prompt_tokens": found.prompt_tokens,
        "asked_node": found.node_name,
        "items": [
            {
                "name": one.id,
                "id": one.id,
                "node": one.node_name,
                "node_id": one.node,
                "backend": one.backend,
                "excluded": one.excluded or None,
                "phase": one.phase,
                "suspect": one.suspect,
                "in_flight": one.in_flight,
                "queued": one.queued,
                "slots": one.slots,
                "load_known": one.load_known,
                "ewma_ttft_s": None,
                "cost": {"total_s": round(one.cost_s, 4), **_rounded(one.terms or {})},
                "place": None if one.excluded else places.index(one.id) + 1,
            }
            for one in found.endpoints
        ],
        "last": {"strategy": "", "items": []},
    }


def _rounded(terms: Mapping[str, float]) -> dict[str, float]:
    return {name: round(seconds, 4) for name, seconds in terms.items()}


def enrolment(state: Enrolment) -> Document:
    """How nodes enrol."""
    return {"name": "enrolment", "open": state.open, "revision": state.revision}


def token(found: Token) -> Document:
    """A join token's facts, without its secret."""
    return {
        "id": found.id,
        "name": found.id,
        "role": found.role,
        "uses": found.uses,
        "used": found.used,
        "state": found.state,
        "created_at": moment(found.created_at_s),
        "created_by": found.created_by,
        "expires_at": moment(found.expires_at_s),
        "revision": found.revision,
    }


def key(found: Key) -> Document:
    """An API key's facts, without its secret."""
    return {
        "id": found.id,
        "name": found.name or found.id,
        "models": list(found.models),
        "manage": found.manage,
        "rpm": found.requests_per_minute,
        "tpd": found.tokens_per_day,
        "concurrency": found.concurrency,
        "state": found.state,
        "created_at": moment(found.created_at_s),
        "created_by": found.created_by,
        "expires_at": moment(found.expires_at_s),
        "revision": found.revision,
    }


def moment(unix_s: int) -> str | None:
    """RFC 3339 in UTC; None for never."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if unix_s else None
