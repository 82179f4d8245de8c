"""``OperationService``."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.rpc.enrollment import fingerprint_of
from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.services.dedupe import Repeat
from controlplane.services.operations import Operations
from swarmplane.codec.operations import operation_to_pb
from swarmplane.v1 import operation_pb2 as pb
from swarmplane.v1 import operation_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class OperationServicer(operation_pb2_grpc.OperationServiceServicer):
    """See operation.proto."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def Get(self, request: pb.GetOperationRequest, context: Context) -> pb.Operation:  # noqa: N802 - as in the contract, like the rest
        """See ``OperationService.Get`` in operation.proto."""
        del context
        return operation_to_pb(await self._operations.get(request.id))

    async def List(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:  # noqa: N802
        """See ``OperationService.List`` in operation.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._operations.page(
            before=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListOperationsResponse(
            operations=map(operation_to_pb, page.operations),
            next_page_token=PageToken(page.last, page.revision).encode(),
        )

    async def Cancel(self, request: pb.CancelOperationRequest, context: Context) -> pb.Operation:  # noqa: N802
        """See ``OperationService.Cancel`` in operation.proto."""
        del context
        who = caller()
        committed = await self._operations.cancel(
            who,
            request.id,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda operation: operation_to_pb(operation).SerializeToString(),
        )
        answer = pb.Operation.FromString(committed.response)
        answer.revision = committed.revision
        return answer
