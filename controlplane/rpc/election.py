"""``ElectionService``."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.services.elections import ElectionChange, ElectionFacts, Elections
from swarmplane.v1 import election_pb2 as pb
from swarmplane.v1 import election_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ElectionServicer(election_pb2_grpc.ElectionServiceServicer):
    """See election.proto."""

    def __init__(self, elections: Elections) -> None:
        self._elections = elections

    async def List(self, request: pb.ListElectionsRequest, context: Context) -> pb.ListElectionsResponse:  # noqa: N802 - as in the contract, like the next
        """See ``ElectionService.List`` in election.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._elections.page(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListElectionsResponse(
            elections=map(_to_pb, page.elections),
            next_page_token=PageToken(page.last, page.revision).encode(),
            revision=page.revision,
        )

    async def Watch(self, request: pb.WatchElectionsRequest, context: Context) -> None:  # noqa: N802
        """See ``ElectionService.Watch`` in election.proto."""

        async def tell(change: ElectionChange) -> None:
            if change.changed is None:
                await context.write(pb.WatchElectionsResponse(revision=change.revision, bookmark=True))
            else:
                await context.write(
                    pb.WatchElectionsResponse(revision=change.revision, changed=_to_pb(change.changed))
                )

        await self._elections.watch(request.revision, tell)


def _to_pb(election: ElectionFacts) -> pb.Election:
    return pb.Election(
        name=election.name,
        holder=election.holder,
        epoch=election.epoch,
        holder_addresses=election.holder_addresses,
        elected_at_s=election.elected_at_s,
        revision=election.revision,
        candidates=election.candidates,
    )
