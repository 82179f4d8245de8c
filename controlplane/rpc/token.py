"""``TokenService``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.rpc.enrollment import fingerprint_of
from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.services.dedupe import Repeat
from controlplane.services.openness import EnrolmentState, Openness
from controlplane.services.tokens import DEFAULT_TTL_S, TokenFacts, Tokens
from swarmplane.ids import TokenId
from swarmplane.v1 import token_pb2 as pb
from swarmplane.v1 import token_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class TokenServicer(token_pb2_grpc.TokenServiceServicer):
    """See token.proto. ``join_addresses`` tells where enrolment listeners are now."""

    def __init__(
        self, tokens: Tokens, openness: Openness, join_addresses: Callable[[], Sequence[str]]
    ) -> None:
        self._tokens = tokens
        self._openness = openness
        self._join_addresses = join_addresses

    async def Create(  # noqa: N802 - as in the contract, like the rest
        self, request: pb.CreateTokenRequest, context: Context
    ) -> pb.CreateTokenResponse:
        """See ``TokenService.Create`` in token.proto."""
        del context

        def encode(token: TokenFacts, text: str) -> bytes:
            answer = pb.CreateTokenResponse(
                token=_token_to_pb(token), join_token=text, join_addresses=self._join_addresses()
            )
            return answer.SerializeToString()

        who = caller()
        committed = await self._tokens.create(
            who,
            role=request.role,
            uses=request.uses if request.HasField("uses") else 1,
            ttl_s=request.ttl_s if request.HasField("ttl_s") else DEFAULT_TTL_S,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=encode,
        )
        answer = pb.CreateTokenResponse.FromString(committed.response)
        answer.token.revision = committed.revision
        return answer

    async def List(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:  # noqa: N802
        """See ``TokenService.List`` in token.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._tokens.page(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListTokensResponse(
            tokens=[_token_to_pb(token) for token in page.tokens],
            next_page_token=PageToken(page.last, page.revision).encode(),
            revision=page.revision,
        )

    async def Revoke(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:  # noqa: N802
        """See ``TokenService.Revoke`` in token.proto."""
        del context
        who = caller()
        committed = await self._tokens.revoke(
            who,
            TokenId(request.id),
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda token: pb.RevokeTokenResponse(token=_token_to_pb(token)).SerializeToString(),
        )
        answer = pb.RevokeTokenResponse.FromString(committed.response)
        answer.token.revision = committed.revision
        return answer

    async def GetEnrolment(self, request: pb.GetEnrolmentRequest, context: Context) -> pb.Enrolment:  # noqa: N802
        """See ``TokenService.GetEnrolment`` in token.proto."""
        del request, context
        return _enrolment_to_pb(await self._openness.state())

    async def SetEnrolment(self, request: pb.SetEnrolmentRequest, context: Context) -> pb.Enrolment:  # noqa: N802
        """See ``TokenService.SetEnrolment`` in token.proto."""
        del context
        who = caller()
        committed = await self._openness.set(
            who,
            is_open=request.open,
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=lambda state: _enrolment_to_pb(state).SerializeToString(),
        )
        answer = pb.Enrolment.FromString(committed.response)
        answer.revision = committed.revision
        return answer


def _enrolment_to_pb(state: EnrolmentState) -> pb.Enrolment:
    return pb.Enrolment(open=state.open, revision=state.revision)


def _token_to_pb(token: TokenFacts) -> pb.Token:
    return pb.Token(
        id=token.id,
        role=token.role.value,
        uses=token.uses,
        used=token.used,
        expires_at_s=token.expires_at_s,
        created_at_s=token.created_at_s,
        state=token.state,
        revision=token.revision,
        created_by=token.created_by,
    )
