"""Policies on the wire."""

from __future__ import annotations

from swarmplane.codec.fallbacks import rule_from_pb, rule_to_pb
from swarmplane.codec.version import version_from_pb, version_to_pb
from swarmplane.fallbacks import FallbackPolicy
from swarmplane.ids import SubjectId
from swarmplane.policies import Policy
from swarmplane.v1 import sidecar_pb2 as pb


def policy_to_pb(policy: Policy, nonce: int) -> pb.PolicyUpdate:
    """``policy`` as a message."""
    return pb.PolicyUpdate(
        version=version_to_pb(policy.version),
        nonce=nonce,
        denied_subjects=sorted(policy.denied),
        default_strategy=policy.default_strategy,
        fallback_rules=map(rule_to_pb, policy.fallbacks.rules),
        substitute_loaded=policy.fallbacks.substitute_loaded,
        auto_pull=policy.fallbacks.auto_pull,
    )


def policy_from_pb(message: pb.PolicyUpdate) -> Policy:
    """The policy in ``message``; an empty strategy stays empty."""
    return Policy(
        version=version_from_pb(message.version),
        denied=frozenset(map(SubjectId, message.denied_subjects)),
        default_strategy=message.default_strategy,
        fallbacks=FallbackPolicy(
            rules=tuple(map(rule_from_pb, message.fallback_rules)),
            substitute_loaded=message.substitute_loaded,
            auto_pull=tuple(message.auto_pull),
        ),
    )
