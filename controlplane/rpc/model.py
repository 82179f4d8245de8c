"""``ModelService``."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.rpc.enrollment import fingerprint_of
from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.services.asked_pulls import AskedPulls
from controlplane.services.catalog import Catalog, ModelFacts, Replica
from controlplane.services.dedupe import Repeat
from swarmplane.codec.operations import operation_to_pb
from swarmplane.codec.traits import traits_to_pb
from swarmplane.v1 import model_pb2 as pb
from swarmplane.v1 import model_pb2_grpc, operation_pb2

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """See model.proto."""

    def __init__(self, catalog: Catalog, pulls: AskedPulls) -> None:
        self._catalog = catalog
        self._pulls = pulls

    async def List(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802 - as in the contract, like the rest
        """See ``ModelService.List`` in model.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._catalog.routes(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListModelsResponse(
            models=map(_model_to_pb, self._catalog.models(page.routes)),
            next_page_token=PageToken(page.last, page.revision).encode(),
            revision=page.revision,
        )

    async def Get(self, request: pb.GetModelRequest, context: Context) -> pb.Model:  # noqa: N802
        """See ``ModelService.Get`` in model.proto."""
        del context
        return _model_to_pb(self._catalog.find(request.model))

    async def Pull(self, request: pb.PullModelRequest, context: Context) -> operation_pb2.Operation:  # noqa: N802
        """See ``ModelService.Pull`` in model.proto."""
        del context
        who = caller()
        committed = await self._pulls.begin(
            who,
            request.model,
            request.node,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda operation: operation_to_pb(operation).SerializeToString(),
        )
        answer = operation_pb2.Operation.FromString(committed.response)
        answer.revision = committed.revision
        return answer


def _model_to_pb(model: ModelFacts) -> pb.Model:
    return pb.Model(
        name=model.route.name,
        state=model.state,
        replicas=map(_replica_to_pb, model.replicas),
        aliases=model.route.aliases,
        context_length=model.context_length,
        size_bytes=model.size_bytes,
        revision=model.route.revision,
        traits=traits_to_pb(model.traits),
    )


def _replica_to_pb(replica: Replica) -> pb.ModelReplica:
    return pb.ModelReplica(
        node_id=replica.node,
        node_name=replica.node_name,
        backend=replica.backend,
        state=replica.model.state.value,
        slots=replica.slots,
        context_length=replica.model.context_length,
    )
