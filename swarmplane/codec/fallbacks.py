"""Rules of fallbacks on the wire."""

from __future__ import annotations

from swarmplane.fallbacks import FallbackRule
from swarmplane.v1 import policy_pb2


def rule_to_pb(rule: FallbackRule) -> policy_pb2.FallbackRule:
    """``rule`` as a message."""
    return policy_pb2.FallbackRule(
        match=rule.match,
        category=rule.category,
        from_bytes=rule.from_bytes,
        below_bytes=rule.below_bytes,
        models=rule.models,
    )


def rule_from_pb(message: policy_pb2.FallbackRule) -> FallbackRule:
    """The rule in ``message``."""
    return FallbackRule(
        models=tuple(message.models),
        match=message.match,
        category=message.category,
        from_bytes=message.from_bytes,
        below_bytes=message.below_bytes,
    )
