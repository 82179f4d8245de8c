"""Calls of the control plane, with plain values in and documents out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import grpc

from cli.client import documents
from cli.client.documents import Document
from cli.output import say
from swarmplane.channels import STALE_KEY, swarm_errors
from swarmplane.ids import random_id
from swarmplane.v1 import (
    certificate_pb2,
    certificate_pb2_grpc,
    election_pb2,
    election_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    route_pb2,
    route_pb2_grpc,
    token_pb2,
    token_pb2_grpc,
)

CALL_S: Final = 15.0
_PAGE: Final = 1_000


class ControlClient:
    """One connection. Every method raises the :class:`SwarmError` that a failed call means."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self.address = address
        self._told = False
        # Generated stubs carry no types.
        self._nodes: Any = node_pb2_grpc.NodeServiceStub(channel)
        self._models: Any = model_pb2_grpc.ModelServiceStub(channel)
        self._routes: Any = route_pb2_grpc.RouteServiceStub(channel)
        self._policies: Any = policy_pb2_grpc.PolicyServiceStub(channel)
        self._tokens: Any = token_pb2_grpc.TokenServiceStub(channel)
        self._operations: Any = operation_pb2_grpc.OperationServiceStub(channel)
        self._elections: Any = election_pb2_grpc.ElectionServiceStub(channel)
        self._certificates: Any = certificate_pb2_grpc.CertificateServiceStub(channel)

    async def nodes(self) -> list[Document]:
        """All nodes, by id."""
        return [
            documents.node(one)
            async for one in self._pages(self._nodes.List, node_pb2.ListNodesRequest, lambda page: page.nodes)
        ]

    async def node(self, name: str) -> Document:
        """One node, by id or name."""
        return documents.node(await self._call(self._nodes.Get, node_pb2.GetNodeRequest(node=name)))

    async def cordon(self, name: str) -> Document:
        """Take no new requests there."""
        request = node_pb2.CordonNodeRequest(node=name, request_id=random_id())
        return documents.node(await self._call(self._nodes.Cordon, request))

    async def uncordon(self, name: str) -> Document:
        """Undo cordon and drain."""
        request = node_pb2.UncordonNodeRequest(node=name, request_id=random_id())
        return documents.node(await self._call(self._nodes.Uncordon, request))

    async def drain(self, name: str) -> Document:
        """Take no new requests there; the operation that waits for those that run."""
        request = node_pb2.DrainNodeRequest(node=name, request_id=random_id())
        return documents.operation(await self._call(self._nodes.Drain, request))

    async def operation(self, operation_id: str) -> Document:
        """Where a long act stands."""
        request = operation_pb2.GetOperationRequest(id=operation_id)
        return documents.operation(await self._call(self._operations.Get, request))

    async def remove_node(self, name: str) -> str:
        """Delete a node and deny its certificate; its id."""
        request = node_pb2.RemoveNodeRequest(node=name, request_id=random_id())
        answer = await self._call(self._nodes.Remove, request)
        return str(answer.node_id)

    async def models(self) -> list[Document]:
        """All models, by name."""
        return [
            documents.model(one)
            async for one in self._pages(
                self._models.List, model_pb2.ListModelsRequest, lambda page: page.models
            )
        ]

    async def model(self, name: str) -> Document:
        """One model, by name or alias."""
        return documents.model(await self._call(self._models.Get, model_pb2.GetModelRequest(model=name)))

    async def routes(self) -> list[Document]:
        """Compiled routes, by model name."""
        return [
            documents.route(one)
            async for one in self._pages(
                self._routes.List, route_pb2.ListRoutesRequest, lambda page: page.routes
            )
        ]

    async def watch_routes(self, revision: int = 0) -> AsyncIterator[Document]:
        """Every route as it stands, or changes from ``revision`` on; then changes, until the stream ends."""
        with swarm_errors(self.address):
            async for change in self._routes.Watch(route_pb2.WatchRoutesRequest(revision=revision)):
                yield documents.route_change(change)

    async def elections(self) -> list[Document]:
        """Elections, by name."""
        return [
            documents.election(one)
            async for one in self._pages(
                self._elections.List, election_pb2.ListElectionsRequest, lambda page: page.elections
            )
        ]

    async def watch_elections(self, revision: int = 0) -> AsyncIterator[Document]:
        """Every election as it stands, or changes from ``revision`` on; then changes, until it ends."""
        with swarm_errors(self.address):
            request = election_pb2.WatchElectionsRequest(revision=revision)
            async for change in self._elections.Watch(request):
                yield documents.election_change(change)

    async def explain(self, model: str, prompt_tokens: int, node: str = "") -> Document:
        """Whom ``node`` (empty: any that is connected) would ask for ``model``, and why not the others."""
        request = route_pb2.ExplainRequest(model=model, prompt_tokens=prompt_tokens, node=node)
        return documents.explanation(await self._call(self._routes.Explain, request))

    async def policies(self) -> list[Document]:
        """The swarm's policy, then those set for models, by name."""
        return [
            documents.policy(one)
            async for one in self._pages(
                self._policies.List, policy_pb2.ListPoliciesRequest, lambda page: page.policies
            )
        ]

    async def policy(self, model: str) -> Document:
        """What holds for ``model``; empty: for the swarm."""
        return documents.policy(
            await self._call(self._policies.Get, policy_pb2.GetPolicyRequest(model=model))
        )

    async def apply_policies(self, wanted: Sequence[tuple[str, str]]) -> list[Document]:
        """Set the strategies of models (empty: the swarm), all at once."""
        request = policy_pb2.ApplyPoliciesRequest(
            policies=[policy_pb2.Policy(model=model, strategy=strategy) for model, strategy in wanted],
            request_id=random_id(),
        )
        answer = await self._call(self._policies.Apply, request)
        return [documents.policy(one) for one in answer.policies]

    async def create_token(self, role: str, uses: int | None, ttl_s: int | None) -> Document:
        """A new join token; ``join_token`` and ``join_addresses`` beside its facts."""
        request = token_pb2.CreateTokenRequest(role=role, uses=uses, ttl_s=ttl_s, request_id=random_id())
        answer = await self._call(self._tokens.Create, request)
        return {
            **documents.token(answer.token),
            "join_token": answer.join_token,
            "join_addresses": list(answer.join_addresses),
        }

    async def tokens(self) -> list[Document]:
        """Join tokens without their secrets."""
        return [
            documents.token(one)
            async for one in self._pages(
                self._tokens.List, token_pb2.ListTokensRequest, lambda page: page.tokens
            )
        ]

    async def revoke_token(self, token_id: str) -> Document:
        """End a token at once."""
        request = token_pb2.RevokeTokenRequest(id=token_id, request_id=random_id())
        answer = await self._call(self._tokens.Revoke, request)
        return documents.token(answer.token)

    async def renew(self, csr_der: bytes) -> bytes:
        """A new certificate (PEM) for whom we act as."""
        answer = await self._call(self._certificates.Renew, certificate_pb2.RenewRequest(csr_der=csr_der))
        return bytes(answer.certificate_pem.encode())

    async def _call(self, method: Any, request: Any) -> Any:  # noqa: ANN401 - generated stubs carry no types
        with swarm_errors(self.address):
            call = method(request, timeout=CALL_S)
            answer = await call
            self._note_age(dict(await call.trailing_metadata() or ()))
            return answer

    def _note_age(self, metadata: Mapping[str, Any]) -> None:
        """Say once that what is told is not fresh."""
        if STALE_KEY in metadata and not self._told:
            self._told = True
            say(f"note: the store is out of reach; this is {metadata[STALE_KEY]} s old")

    async def _pages(
        self,
        method: Any,  # noqa: ANN401
        request: Callable[..., Any],
        items: Callable[[Any], Any],
    ) -> AsyncIterator[Any]:
        page_token = ""
        while True:
            page = await self._call(method, request(page_size=_PAGE, page_token=page_token))
            for item in items(page):
                yield item
            page_token = page.next_page_token
            if not page_token:
                return
