"""``PolicyService``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from controlplane.rpc.caller import caller
from controlplane.rpc.enrollment import fingerprint_of
from controlplane.rpc.paging import PageToken, decode_page_token, page_size
from controlplane.rpc.server import service_names
from controlplane.services.dedupe import Repeat
from controlplane.services.policies import Policies, PolicyFacts
from swarmplane.codec.fallbacks import rule_from_pb, rule_to_pb
from swarmplane.fallbacks import FallbackPolicy
from swarmplane.v1 import policy_pb2 as pb
from swarmplane.v1 import policy_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """See policy.proto."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def List(self, request: pb.ListPoliciesRequest, context: Context) -> pb.ListPoliciesResponse:  # noqa: N802 - as in the contract, like the rest
        """See ``PolicyService.List`` in policy.proto."""
        del context
        start = decode_page_token(request.page_token)
        page = await self._policies.page(
            after=start.after, limit=page_size(request.page_size), revision=start.revision
        )
        return pb.ListPoliciesResponse(
            policies=map(_policy_to_pb, page.policies),
            next_page_token=PageToken(page.last, page.revision).encode(),
        )

    async def Get(self, request: pb.GetPolicyRequest, context: Context) -> pb.Policy:  # noqa: N802
        """See ``PolicyService.Get`` in policy.proto."""
        del context
        return _policy_to_pb(await self._policies.get(request.model))

    async def Apply(self, request: pb.ApplyPoliciesRequest, context: Context) -> pb.ApplyPoliciesResponse:  # noqa: N802
        """See ``PolicyService.Apply`` in policy.proto."""
        del context
        who = caller()

        def encode(policies: Sequence[PolicyFacts]) -> bytes:
            return pb.ApplyPoliciesResponse(policies=map(_policy_to_pb, policies)).SerializeToString()

        committed = await self._policies.apply(
            who,
            [_policy_from_pb(one) for one in request.policies],
            expected_revision=request.expected_revision,
            repeat=Repeat(who.subject.id, request.request_id, fingerprint_of(request)),
            encode=encode,
        )
        answer = pb.ApplyPoliciesResponse.FromString(committed.response)
        answer.revision = committed.revision
        for policy in answer.policies:
            policy.revision = committed.revision
        return answer


def _policy_to_pb(policy: PolicyFacts) -> pb.Policy:
    fallbacks = policy.fallbacks
    return pb.Policy(
        model=policy.model,
        strategy=policy.strategy,
        revision=policy.revision,
        fallbacks=policy.chain,
        fallback_rules=map(rule_to_pb, fallbacks.rules),
        substitute_loaded=fallbacks.substitute_loaded,
        auto_pull=fallbacks.auto_pull,
        context_protection=policy.context,
    )


def _policy_from_pb(message: pb.Policy) -> PolicyFacts:
    rules = tuple(map(rule_from_pb, message.fallback_rules))
    fallbacks = FallbackPolicy(rules, message.substitute_loaded, tuple(message.auto_pull))
    return PolicyFacts(
        message.model,
        message.strategy,
        chain=tuple(message.fallbacks),
        fallbacks=fallbacks,
        context=message.context_protection,
    )


def register_policies(server: grpc.aio.Server, policies: Policies) -> tuple[str, ...]:
    """Names of the services added to ``server``, which authorizes callers and is not started yet."""
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(PolicyServicer(policies), server)
    return service_names(pb)
