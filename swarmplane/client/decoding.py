"""Messages of the control plane as values."""

from __future__ import annotations

from swarmplane.client.values import (
    Alias,
    Change,
    Election,
    Enrolment,
    Event,
    Model,
    NewToken,
    Node,
    NodeBackend,
    Policy,
    PushState,
    Replica,
    Token,
)
from swarmplane.codec.conditions import condition_from_pb
from swarmplane.codec.fallbacks import rule_from_pb, rule_to_pb
from swarmplane.codec.inventory import gpus_from_pb
from swarmplane.codec.table import model_route_from_pb
from swarmplane.codec.traits import traits_from_pb
from swarmplane.codec.version import version_from_pb
from swarmplane.fallbacks import FallbackPolicy
from swarmplane.routes import ModelRoute
from swarmplane.v1 import (
    alias_pb2,
    election_pb2,
    event_pb2,
    model_pb2,
    node_pb2,
    policy_pb2,
    route_pb2,
    token_pb2,
)


def node(message: node_pb2.Node) -> Node:
    """A node."""
    return Node(
        id=message.id,
        name=message.name,
        state=message.state,
        cordoned=message.cordoned,
        founder=message.founder,
        models=tuple(message.models),
        labels={label.key: label.value for label in message.labels},
        peer_addresses=tuple(message.peer_addresses),
        unreachable_reason=message.unreachable_reason,
        client_url=message.client_url,
        backends=tuple(map(_backend, message.backends)),
        software_version=message.software_version,
        platform=message.platform,
        memory_bytes=message.memory_bytes,
        cpu=message.cpu,
        cpus=message.cpus,
        gpus=gpus_from_pb(message.gpus) if message.gpus_known else None,
        disk_bytes=message.disk_bytes,
        gateway_url=message.gateway_url,
        condition=condition_from_pb(message.condition) if message.HasField("condition") else None,
        session=message.session,
        instance_id=message.instance_id,
        silent_s=message.silent_s if message.silent_s >= 0 else None,
        push=PushState(
            version_from_pb(message.push.sent),
            version_from_pb(message.push.acked),
            version_from_pb(message.push.nacked),
            message.push.nack_reason,
        ),
        revision=message.revision,
    )


def _backend(message: node_pb2.NodeBackend) -> NodeBackend:
    return NodeBackend(message.name, message.kind, message.healthy, message.reason, tuple(message.models))


def model(message: model_pb2.Model) -> Model:
    """A language model."""
    return Model(
        name=message.name,
        state=message.state,
        aliases=tuple(message.aliases),
        context_length=message.context_length,
        size_bytes=message.size_bytes,
        replicas=tuple(
            Replica(one.node_id, one.node_name, one.backend, one.state, one.slots, one.context_length)
            for one in message.replicas
        ),
        revision=message.revision,
        traits=traits_from_pb(message.traits),
    )


def alias(message: alias_pb2.Alias) -> Alias:
    """An alias."""
    return Alias(message.name, message.model, message.state, message.revision)


def policy(message: policy_pb2.Policy) -> Policy:
    """A policy."""
    rules = tuple(map(rule_from_pb, message.fallback_rules))
    fallbacks = FallbackPolicy(rules, message.substitute_loaded, tuple(message.auto_pull))
    return Policy(
        message.model,
        message.strategy,
        message.revision,
        tuple(message.fallbacks),
        fallbacks,
        message.context_protection,
    )


def policy_to_pb(policy: Policy) -> policy_pb2.Policy:
    """The inverse, without the revision."""
    return policy_pb2.Policy(
        model=policy.model,
        strategy=policy.strategy,
        fallbacks=policy.chain,
        fallback_rules=map(rule_to_pb, policy.fallbacks.rules),
        substitute_loaded=policy.fallbacks.substitute_loaded,
        auto_pull=policy.fallbacks.auto_pull,
        context_protection=policy.context,
    )


def token(message: token_pb2.Token) -> Token:
    """A join token's facts."""
    return Token(
        id=message.id,
        role=message.role,
        uses=message.uses,
        used=message.used,
        state=message.state,
        created_at_s=message.created_at_s,
        created_by=message.created_by,
        expires_at_s=message.expires_at_s,
        revision=message.revision,
    )


def enrolment(message: token_pb2.Enrolment) -> Enrolment:
    """How nodes enrol."""
    return Enrolment(message.open, message.revision)


def new_token(message: token_pb2.CreateTokenResponse) -> NewToken:
    """A token that was just made."""
    return NewToken(token(message.token), message.join_token, tuple(message.join_addresses))


def election(message: election_pb2.Election) -> Election:
    """An election."""
    return Election(
        name=message.name,
        holder=message.holder,
        epoch=message.epoch,
        holder_addresses=tuple(message.holder_addresses),
        elected_at_s=message.elected_at_s,
        candidates=tuple(message.candidates),
        revision=message.revision,
    )


def event(message: event_pb2.Event) -> Event:
    """Something that happened."""
    return Event(message.revision, message.kind, message.subject, message.name, message.message)


def route_change(message: route_pb2.WatchRoutesResponse) -> Change[ModelRoute]:
    """One change of the routes."""
    kind = message.WhichOneof("kind")
    if kind == "put":
        route = model_route_from_pb(message.put)
        return Change("put", message.revision, route.name, route)
    if kind == "removed":
        return Change("removed", message.revision, message.removed)
    return Change("bookmark", message.revision)


def election_change(message: election_pb2.WatchElectionsResponse) -> Change[Election]:
    """One change of the elections."""
    if message.WhichOneof("kind") == "changed":
        found = election(message.changed)
        return Change("put", message.revision, found.name, found)
    return Change("bookmark", message.revision)
