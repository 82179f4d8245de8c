"""``KeyService``."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.rpc.enrollment import fingerprint_of
from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.rpc.server import service_names
from controlplane.services.client_keys import ClientKeys, KeyFacts, WantedKey
from controlplane.services.dedupe import Repeat
from swarmplane.v1 import key_pb2 as pb
from swarmplane.v1 import key_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class KeyServicer(key_pb2_grpc.KeyServiceServicer):
    """See key.proto."""

    def __init__(self, keys: ClientKeys) -> None:
        self._keys = keys

    async def Create(self, request: pb.CreateKeyRequest, context: Context) -> pb.CreateKeyResponse:  # noqa: N802 - as in the contract, like the rest
        """See ``KeyService.Create`` in key.proto."""
        del context
        who = caller()
        committed = await self._keys.create(
            who,
            WantedKey(
                name=request.name,
                models=tuple(request.models),
                manage=request.manage,
                requests_per_minute=request.requests_per_minute,
                tokens_per_day=request.tokens_per_day,
                concurrency=request.concurrency,
                ttl_s=request.ttl_s,
            ),
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda facts, text: pb.CreateKeyResponse(
                key=_key_to_pb(facts), secret=text
            ).SerializeToString(),
        )
        answer = pb.CreateKeyResponse.FromString(committed.response)
        answer.key.revision = committed.revision
        return answer

    async def List(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:  # noqa: N802
        """See ``KeyService.List`` in key.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._keys.page(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListKeysResponse(
            keys=map(_key_to_pb, page.keys), next_page_token=PageToken(page.last, page.revision).encode()
        )

    async def Revoke(self, request: pb.RevokeKeyRequest, context: Context) -> pb.RevokeKeyResponse:  # noqa: N802
        """See ``KeyService.Revoke`` in key.proto."""
        del context
        who = caller()
        committed = await self._keys.revoke(
            who,
            request.id,
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda key_id: pb.RevokeKeyResponse(id=key_id).SerializeToString(),
        )
        answer = pb.RevokeKeyResponse.FromString(committed.response)
        answer.revision = committed.revision
        return answer


def _key_to_pb(facts: KeyFacts) -> pb.Key:
    key = facts.key
    return pb.Key(
        id=key.id,
        name=key.name,
        models=key.models,
        manage=key.manage,
        requests_per_minute=key.requests_per_minute,
        tokens_per_day=key.tokens_per_day,
        concurrency=key.concurrency,
        expires_at_s=key.expires_at_s,
        created_at_s=facts.created_at_s,
        state=facts.state,
        revision=facts.revision,
        created_by=facts.created_by,
    )


def register_keys(server: grpc.aio.Server, keys: ClientKeys) -> tuple[str, ...]:
    """Names of the services added to ``server``, which authorizes callers and is not started yet."""
    key_pb2_grpc.add_KeyServiceServicer_to_server(KeyServicer(keys), server)
    return service_names(pb)
