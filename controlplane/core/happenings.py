"""Events, derived from what changed in the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from swarmplane.routes import ModelRoute


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened, for people and automation."""

    kind: str
    """As ``node.gone``."""
    subject: str
    """Id of the thing."""
    name: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """What events need of a node's durable record."""

    id: str
    name: str
    gone: bool


def node_happening(before: NodeRow | None, after: NodeRow | None) -> Happening | None:
    """What a change of a node's record says."""
    if after is None:
        if before is None:
            return None
        return Happening("node.removed", before.id, before.name, f"{before.name} was removed from the swarm")
    if before is None:
        return Happening("node.enrolled", after.id, after.name, f"{after.name} was enrolled")
    if after.gone and not before.gone:
        return Happening("node.gone", after.id, after.name, f"{after.name} is gone; its models wait for it")
    return None


def member_happening(node: str, name: str, before: str | None, after: str | None) -> Happening | None:
    """What a change of a node's lease says; ``before`` and ``after`` are incarnations."""
    if after is None or before == after:
        return None
    return Happening("node.joined", node, name, f"{name or node} is connected")


def route_happening(before: ModelRoute | None, after: ModelRoute | None) -> Happening | None:
    """What a change of a route says."""
    was, now = _ready(before), _ready(after)
    route = after or before
    if route is None or was == now:
        return None
    if now:
        return Happening("model.ready", route.name, route.name, f"{route.name} is served")
    return Happening("model.absent", route.name, route.name, f"nobody serves {route.name} now")


def _ready(route: ModelRoute | None) -> bool:
    return route is not None and any(endpoint.ready for endpoint in route.endpoints)


@dataclass(frozen=True, slots=True)
class PullRow:
    """What events need of a pull."""

    state: str
    """running, done or failed."""
    node: str
    """Name of the node."""
    completed_bytes: int = 0
    total_bytes: int = 0
    reason: str = ""


def pull_happening(model: str, before: PullRow | None, after: PullRow | None) -> Happening | None:
    """What a change of a pull says: its begin, its progress, its end."""
    if after is None or after == before:
        return None
    if after.state == "done":
        return Happening("model.pulled", model, model, f"{after.node} has pulled {model}")
    if after.state == "failed":
        message = f"{after.node} could not pull {model}: {after.reason}"
        return Happening("model.pull_failed", model, model, message)
    done = f", {after.completed_bytes * 100 // after.total_bytes} %" if after.total_bytes else ""
    return Happening("model.pulling", model, model, f"{after.node} pulls {model}{done}")


def token_happening(token: str, *, existed: bool, was_revoked: bool, revoked: bool) -> Happening | None:
    """What a change of a token says."""
    if revoked and not was_revoked:
        return Happening("token.revoked", token, "", f"token {token} was revoked")
    return None if existed else Happening("token.created", token, "", f"token {token} was made")


def wanted(kind: str, patterns: Iterable[str]) -> bool:
    """Whether ``kind`` is among ``patterns``; a last ``.*`` matches a family, none match all."""
    patterns = tuple(patterns)
    return not patterns or any(
        kind.startswith(pattern[:-1]) if pattern.endswith(".*") else kind == pattern for pattern in patterns
    )
