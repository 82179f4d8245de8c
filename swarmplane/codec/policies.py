"""Policies on the wire."""

from __future__ import annotations

import math

from swarmplane.codec.client_keys import client_key_from_pb, client_key_to_pb
from swarmplane.codec.fallbacks import rule_from_pb, rule_to_pb
from swarmplane.codec.version import version_from_pb, version_to_pb
from swarmplane.fallbacks import FallbackPolicy
from swarmplane.ids import BackendName, NodeId, SubjectId
from swarmplane.policies import Policy
from swarmplane.pulls import DONE, FAILED, RUNNING, Pull, PullReport
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
        context_protection=policy.default_context,
        open=policy.open,
        pulls=[
            pb.Pull(model=one.model, node_id=one.node, backend=one.backend, eta_s=one.eta_s)
            for one in policy.pulls
        ],
        keys=map(client_key_to_pb, policy.keys),
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
        pulls=tuple(
            Pull(one.model, NodeId(one.node_id), BackendName(one.backend), one.eta_s) for one in message.pulls
        ),
        default_context=message.context_protection,
        keys=tuple(map(client_key_from_pb, message.keys)),
        open=message.open,
    )


def pull_report_to_pb(report: PullReport) -> pb.PullReport:
    """``report`` as a message."""
    return pb.PullReport(
        model=report.model,
        state=report.state,
        completed_bytes=report.completed_bytes,
        total_bytes=report.total_bytes,
        eta_s=report.eta_s,
        reason=report.reason,
    )


def pull_report_from_pb(message: pb.PullReport) -> PullReport:
    """The report in ``message``; a state that is none means that it failed."""
    state = message.state if message.state in {RUNNING, DONE} else FAILED
    return PullReport(
        message.model,
        state,
        message.completed_bytes,
        message.total_bytes,
        max(message.eta_s, 0.0) if math.isfinite(message.eta_s) else 0.0,
        message.reason,
    )
