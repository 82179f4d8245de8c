"""Inference servers of this host, as its sidecar sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cli.doctor.asking import asked
from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost

Items = Sequence[Mapping[str, Any]]
_FOREIGN: Final = "another user's"
_WELL: Final = frozenset({"ok", "busy", "off"})


def _backends(host: ExaminedHost) -> Items:
    items = asked(host, "admin", "/backends").get("items")
    return items if isinstance(items, list) else []


def judge_here(items: Items) -> Verdict:
    """What needs a key, or does not answer, serves nothing."""
    foreign = "; ".join(f"{one['name']}: {one['reason']}" for one in items if one["state"] == _FOREIGN)
    items = [one for one in items if one["state"] != _FOREIGN]
    if not items:
        raise SkippedError(foreign or "no inference server is found on this host, and none is named")
    ill = [one for one in items if one["state"] not in _WELL]
    if not ill:
        told = ", ".join(f"{one['name']} ({one['kind']}, {len(one['models'])} models)" for one in items)
        return good(f"{told}; not used: {foreign}" if foreign else told)
    fixes = dict.fromkeys(_fix(one) for one in ill)
    return bad("; ".join(f"{one['name']} {one['state']}: {one['reason']}" for one in ill), "; ".join(fixes))


def _fix(one: Mapping[str, Any]) -> str:
    if one["state"] == "needs key":
        return f"swarmctl backend add {one['url']} --key-file FILE"
    if one["state"] == "is a node":
        return f"swarmctl backend remove {one['name']}, and join its swarm: swarmctl join ADDRESS"
    return f"start what serves at {one['url']}, or: swarmctl backend remove {one['name']}"


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("backends.here", "inference servers of this host answer", Source(gather=_backends), judge_here),
)
