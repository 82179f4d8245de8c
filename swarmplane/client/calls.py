"""Calls of the control plane as values: what is sent where, and how the answer reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message

from swarmplane.client import decoding
from swarmplane.client.values import (
    Alias,
    Change,
    Election,
    Enrolment,
    Event,
    Model,
    NewToken,
    Node,
    Page,
    Policy,
    Token,
)
from swarmplane.codec.explanations import explanation_from_pb
from swarmplane.codec.operations import operation_from_pb
from swarmplane.codec.table import model_route_from_pb
from swarmplane.explanation import RouteExplanation
from swarmplane.operation import Operation
from swarmplane.routes import ModelRoute
from swarmplane.v1 import (
    alias_pb2,
    certificate_pb2,
    election_pb2,
    event_pb2,
    model_pb2,
    node_pb2,
    operation_pb2,
    policy_pb2,
    route_pb2,
    token_pb2,
)

T = TypeVar("T")
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call; for a stream, ``decode`` reads each message of it."""

    method: str
    """``Service/Method`` of the package."""
    request: Message
    answer: type[Message]
    decode: Callable[[Any], T]

    @property
    def path(self) -> str:
        """As it stands on the wire."""
        return f"/swarmplane.v1.{self.method}"


Listing = Callable[[str], Call[Page[T]]]
"""The call for the page that a page token names; an empty one names the first."""


def list_nodes(page_token: str, page_size: int = PAGE) -> Call[Page[Node]]:
    """Nodes, by id."""
    return Call(
        "NodeService/List",
        node_pb2.ListNodesRequest(page_size=page_size, page_token=page_token),
        node_pb2.ListNodesResponse,
        lambda page: Page(tuple(map(decoding.node, page.nodes)), page.next_page_token),
    )


def nodes_revision() -> Call[int]:
    """The store's revision now."""
    request = node_pb2.ListNodesRequest(page_size=1)
    return Call("NodeService/List", request, node_pb2.ListNodesResponse, lambda page: int(page.revision))


def get_node(name: str) -> Call[Node]:
    """One node, by id or name."""
    return Call("NodeService/Get", node_pb2.GetNodeRequest(node=name), node_pb2.Node, decoding.node)


def cordon_node(name: str, request_id: str, expected_revision: int) -> Call[Node]:
    """Take no new requests there."""
    request = node_pb2.CordonNodeRequest(
        node=name, request_id=request_id, expected_revision=expected_revision
    )
    return Call("NodeService/Cordon", request, node_pb2.Node, decoding.node)


def uncordon_node(name: str, request_id: str, expected_revision: int) -> Call[Node]:
    """Undo cordon and drain."""
    request = node_pb2.UncordonNodeRequest(
        node=name, request_id=request_id, expected_revision=expected_revision
    )
    return Call("NodeService/Uncordon", request, node_pb2.Node, decoding.node)


def drain_node(name: str, request_id: str, expected_revision: int) -> Call[Operation]:
    """Cordon, and the operation that waits for what runs."""
    request = node_pb2.DrainNodeRequest(node=name, request_id=request_id, expected_revision=expected_revision)
    return Call("NodeService/Drain", request, operation_pb2.Operation, operation_from_pb)


def remove_node(name: str, request_id: str, expected_revision: int) -> Call[str]:
    """Delete a node and deny its certificate; its id."""
    request = node_pb2.RemoveNodeRequest(
        node=name, request_id=request_id, expected_revision=expected_revision
    )
    return Call("NodeService/Remove", request, node_pb2.RemoveNodeResponse, lambda answer: answer.node_id)


def list_models(page_token: str) -> Call[Page[Model]]:
    """Models, by name."""
    return Call(
        "ModelService/List",
        model_pb2.ListModelsRequest(page_size=PAGE, page_token=page_token),
        model_pb2.ListModelsResponse,
        lambda page: Page(tuple(map(decoding.model, page.models)), page.next_page_token),
    )


def pull_model(name: str, node: str, request_id: str) -> Call[Operation]:
    """Have a node pull a model; the operation that does."""
    request = model_pb2.PullModelRequest(model=name, node=node, request_id=request_id)
    return Call("ModelService/Pull", request, operation_pb2.Operation, operation_from_pb)


def get_model(name: str) -> Call[Model]:
    """One model, by name or alias."""
    return Call("ModelService/Get", model_pb2.GetModelRequest(model=name), model_pb2.Model, decoding.model)


def list_routes(page_token: str) -> Call[Page[ModelRoute]]:
    """Compiled routes, by model name."""
    return Call(
        "RouteService/List",
        route_pb2.ListRoutesRequest(page_size=PAGE, page_token=page_token),
        route_pb2.ListRoutesResponse,
        lambda page: Page(tuple(map(model_route_from_pb, page.routes)), page.next_page_token),
    )


def watch_routes(revision: int) -> Call[Change[ModelRoute]]:
    """Routes as they stand (0), or changes from ``revision`` on; then changes."""
    request = route_pb2.WatchRoutesRequest(revision=revision)
    return Call("RouteService/Watch", request, route_pb2.WatchRoutesResponse, decoding.route_change)


def explain(model: str, prompt_tokens: int, node: str) -> Call[RouteExplanation]:
    """Whom a node would ask for a model."""
    request = route_pb2.ExplainRequest(model=model, prompt_tokens=prompt_tokens, node=node)
    return Call("RouteService/Explain", request, route_pb2.RouteExplanation, explanation_from_pb)


def list_elections(page_token: str) -> Call[Page[Election]]:
    """Elections, by name."""
    return Call(
        "ElectionService/List",
        election_pb2.ListElectionsRequest(page_size=PAGE, page_token=page_token),
        election_pb2.ListElectionsResponse,
        lambda page: Page(tuple(map(decoding.election, page.elections)), page.next_page_token),
    )


def watch_elections(revision: int) -> Call[Change[Election]]:
    """Elections as they stand (0), or changes from ``revision`` on; then changes."""
    request = election_pb2.WatchElectionsRequest(revision=revision)
    return Call(
        "ElectionService/Watch", request, election_pb2.WatchElectionsResponse, decoding.election_change
    )


def watch_events(revision: int, kinds: Sequence[str]) -> Call[Event]:
    """Events from ``revision`` on."""
    request = event_pb2.WatchEventsRequest(revision=revision, kinds=kinds)
    return Call("EventService/Watch", request, event_pb2.Event, decoding.event)


def list_aliases(page_token: str) -> Call[Page[Alias]]:
    """Aliases, by name."""
    return Call(
        "AliasService/List",
        alias_pb2.ListAliasesRequest(page_size=PAGE, page_token=page_token),
        alias_pb2.ListAliasesResponse,
        lambda page: Page(tuple(map(decoding.alias, page.aliases)), page.next_page_token),
    )


def set_alias(name: str, model: str, request_id: str, expected_revision: int) -> Call[Alias]:
    """Let a model answer to a name, or to a pattern."""
    request = alias_pb2.SetAliasRequest(
        name=name, model=model, request_id=request_id, expected_revision=expected_revision
    )
    return Call("AliasService/Set", request, alias_pb2.Alias, decoding.alias)


def remove_alias(name: str, request_id: str, expected_revision: int) -> Call[str]:
    """Delete an alias; its name."""
    request = alias_pb2.RemoveAliasRequest(
        name=name, request_id=request_id, expected_revision=expected_revision
    )
    return Call("AliasService/Remove", request, alias_pb2.RemoveAliasResponse, lambda answer: answer.name)


def list_policies(page_token: str) -> Call[Page[Policy]]:
    """The swarm's policy, then those of models, by name."""
    return Call(
        "PolicyService/List",
        policy_pb2.ListPoliciesRequest(page_size=PAGE, page_token=page_token),
        policy_pb2.ListPoliciesResponse,
        lambda page: Page(tuple(map(decoding.policy, page.policies)), page.next_page_token),
    )


def get_policy(model: str) -> Call[Policy]:
    """The policy of a model; empty: the swarm's."""
    return Call(
        "PolicyService/Get", policy_pb2.GetPolicyRequest(model=model), policy_pb2.Policy, decoding.policy
    )


def apply_policies(
    policies: Sequence[Policy], request_id: str, expected_revision: int
) -> Call[tuple[Policy, ...]]:
    """Set policies, all at once; as they stand then."""
    request = policy_pb2.ApplyPoliciesRequest(
        policies=map(decoding.policy_to_pb, policies),
        request_id=request_id,
        expected_revision=expected_revision,
    )
    return Call(
        "PolicyService/Apply",
        request,
        policy_pb2.ApplyPoliciesResponse,
        lambda answer: tuple(map(decoding.policy, answer.policies)),
    )


def create_token(role: str, uses: int | None, ttl_s: int | None, request_id: str) -> Call[NewToken]:
    """A new join token; None: the swarm's default."""
    request = token_pb2.CreateTokenRequest(role=role, uses=uses, ttl_s=ttl_s, request_id=request_id)
    return Call("TokenService/Create", request, token_pb2.CreateTokenResponse, decoding.new_token)


def list_tokens(page_token: str) -> Call[Page[Token]]:
    """Join tokens, by id."""
    return Call(
        "TokenService/List",
        token_pb2.ListTokensRequest(page_size=PAGE, page_token=page_token),
        token_pb2.ListTokensResponse,
        lambda page: Page(tuple(map(decoding.token, page.tokens)), page.next_page_token),
    )


def get_enrolment() -> Call[Enrolment]:
    """Whether nodes enrol without a token."""
    return Call(
        "TokenService/GetEnrolment", token_pb2.GetEnrolmentRequest(), token_pb2.Enrolment, decoding.enrolment
    )


def set_enrolment(is_open: bool, request_id: str, expected_revision: int) -> Call[Enrolment]:
    """Let nodes enrol without a token, or end that."""
    request = token_pb2.SetEnrolmentRequest(
        open=is_open, request_id=request_id, expected_revision=expected_revision
    )
    return Call("TokenService/SetEnrolment", request, token_pb2.Enrolment, decoding.enrolment)


def revoke_token(token_id: str, request_id: str, expected_revision: int) -> Call[Token]:
    """End a token at once."""
    request = token_pb2.RevokeTokenRequest(
        id=token_id, request_id=request_id, expected_revision=expected_revision
    )
    return Call(
        "TokenService/Revoke",
        request,
        token_pb2.RevokeTokenResponse,
        lambda answer: decoding.token(answer.token),
    )


def get_operation(operation_id: str) -> Call[Operation]:
    """Where a long act stands."""
    request = operation_pb2.GetOperationRequest(id=operation_id)
    return Call("OperationService/Get", request, operation_pb2.Operation, operation_from_pb)


def list_operations(page_token: str) -> Call[Page[Operation]]:
    """Long acts of the last day, newest first."""
    return Call(
        "OperationService/List",
        operation_pb2.ListOperationsRequest(page_size=PAGE, page_token=page_token),
        operation_pb2.ListOperationsResponse,
        lambda page: Page(tuple(map(operation_from_pb, page.operations)), page.next_page_token),
    )


def cancel_operation(operation_id: str, request_id: str) -> Call[Operation]:
    """Ask a long act to stop."""
    request = operation_pb2.CancelOperationRequest(id=operation_id, request_id=request_id)
    return Call("OperationService/Cancel", request, operation_pb2.Operation, operation_from_pb)


def renew(csr_der: bytes) -> Call[bytes]:
    """A new certificate (PEM) for whom the caller acts as."""
    request = certificate_pb2.RenewRequest(csr_der=csr_der)
    return Call(
        "CertificateService/Renew",
        request,
        certificate_pb2.RenewResponse,
        lambda answer: bytes(answer.certificate_pem.encode()),
    )
