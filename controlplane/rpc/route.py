"""``RouteService``."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.services.catalog import Catalog, RouteChange
from controlplane.services.nodes import Nodes
from controlplane.services.questions import Questions
from swarmplane.codec.explanations import explanation_to_pb
from swarmplane.codec.table import model_route_to_pb
from swarmplane.codec.version import version_to_pb
from swarmplane.routes import Version
from swarmplane.v1 import route_pb2 as pb
from swarmplane.v1 import route_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class RouteServicer(route_pb2_grpc.RouteServiceServicer):
    """See route.proto."""

    def __init__(self, catalog: Catalog, nodes: Nodes, questions: Questions) -> None:
        self._catalog = catalog
        self._nodes = nodes
        self._questions = questions

    async def List(self, request: pb.ListRoutesRequest, context: Context) -> pb.ListRoutesResponse:  # noqa: N802 - as in the contract, like the rest
        """See ``RouteService.List`` in route.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._catalog.routes(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListRoutesResponse(
            routes=map(model_route_to_pb, page.routes),
            next_page_token=PageToken(page.last, page.revision).encode(),
            version=version_to_pb(Version(page.generation, page.revision)),
        )

    async def Watch(self, request: pb.WatchRoutesRequest, context: Context) -> None:  # noqa: N802
        """See ``RouteService.Watch`` in route.proto."""

        async def tell(change: RouteChange) -> None:
            await context.write(_change_to_pb(change))

        await self._catalog.watch(request.revision, tell)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.RouteExplanation:  # noqa: N802
        """See ``RouteService.Explain`` in route.proto."""
        del context
        node = (await self._nodes.get(request.node)).id if request.node else None
        return explanation_to_pb(await self._questions.explain(node, request.model, request.prompt_tokens))


def _change_to_pb(change: RouteChange) -> pb.WatchRoutesResponse:
    if change.put is not None:
        return pb.WatchRoutesResponse(revision=change.revision, put=model_route_to_pb(change.put))
    if change.removed:
        return pb.WatchRoutesResponse(revision=change.revision, removed=change.removed)
    return pb.WatchRoutesResponse(revision=change.revision, bookmark=True)
