"""``AliasService``."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.rpc.enrollment import fingerprint_of
from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.rpc.server import service_names
from controlplane.services.aliases import Aliases, AliasFacts
from controlplane.services.dedupe import Repeat
from swarmplane.v1 import alias_pb2 as pb
from swarmplane.v1 import alias_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class AliasServicer(alias_pb2_grpc.AliasServiceServicer):
    """See alias.proto."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    async def List(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:  # noqa: N802 - as in the contract, like the rest
        """See ``AliasService.List`` in alias.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._aliases.page(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListAliasesResponse(
            aliases=map(_alias_to_pb, page.aliases),
            next_page_token=PageToken(page.last, page.revision).encode(),
        )

    async def Set(self, request: pb.SetAliasRequest, context: Context) -> pb.Alias:  # noqa: N802
        """See ``AliasService.Set`` in alias.proto."""
        del context
        who = caller()
        committed = await self._aliases.set(
            who,
            request.name,
            request.model,
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda alias: _alias_to_pb(alias).SerializeToString(),
        )
        answer = pb.Alias.FromString(committed.response)
        answer.revision = committed.revision
        return answer

    async def Remove(self, request: pb.RemoveAliasRequest, context: Context) -> pb.RemoveAliasResponse:  # noqa: N802
        """See ``AliasService.Remove`` in alias.proto."""
        del context
        who = caller()
        committed = await self._aliases.remove(
            who,
            request.name,
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            response=pb.RemoveAliasResponse(name=request.name).SerializeToString(),
        )
        answer = pb.RemoveAliasResponse.FromString(committed.response)
        answer.revision = committed.revision
        return answer


def _alias_to_pb(alias: AliasFacts) -> pb.Alias:
    return pb.Alias(name=alias.name, model=alias.model, state=alias.state, revision=alias.revision)


def register_aliases(server: grpc.aio.Server, aliases: Aliases) -> tuple[str, ...]:
    """Names of the services added to ``server``, which authorizes callers and is not started yet."""
    alias_pb2_grpc.add_AliasServiceServicer_to_server(AliasServicer(aliases), server)
    return service_names(pb)
