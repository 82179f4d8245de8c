"""The hosts of the swarm, as its control plane sees them."""

from __future__ import annotations

from typing import Final

from cli.doctor.asking import SWARM, Swarm, known
from cli.doctor.check import AnyCheck, Check, SkippedError, Verdict, bad, good


def judge_reached(swarm: Swarm) -> Verdict:
    """Whom others can't reach serves its own clients alone."""
    own = next((one for one in known(swarm) if one["id"] == swarm.node_id), None)
    if own is None:
        raise SkippedError("this host is not listed")
    if own["unreachable_reason"]:
        return bad(
            f"others can't reach this host: {own['unreachable_reason']}",
            "say an address that they reach: swarmctl up --advertise HOST; let its peer port (11403) through",
        )
    return good(", ".join(own["peer_addresses"]) or "no address is told")


def judge_live(swarm: Swarm) -> Verdict:
    """Models of a host that is silent are asked last, or not at all."""
    away = [
        f"{one['name']} is {one['state']}"
        + (f" ({one['unreachable_reason']})" if one["unreachable_reason"] else "")
        for one in known(swarm)
        if one["state"] != "live" or (one["unreachable_reason"] and one["id"] != swarm.node_id)
    ]
    if away:
        return bad(
            "; ".join(away),
            "run swarmctl up and swarmctl doctor there; one that is no more: swarmctl node remove",
        )
    return good(f"{len(swarm.nodes)} of {len(swarm.nodes)} are live")


def judge_versions(swarm: Swarm) -> Verdict:
    """Hosts of two versions agree on less."""
    by: dict[str, list[str]] = {}
    for one in known(swarm):
        if one["software_version"]:
            by.setdefault(one["software_version"], []).append(one["name"])
    if len(by) > 1:
        return bad(
            "; ".join(f"{version}: {', '.join(sorted(names))}" for version, names in sorted(by.items())),
            "install the same version on all of them (swarmctl version), control planes first",
        )
    return good(next(iter(by), "not told"))


def judge_backends(swarm: Swarm) -> Verdict:
    """A backend that does not answer takes its models away."""
    found = [(one, backend) for one in known(swarm) for backend in one["backends"]]
    ill = [
        f"{backend['name']} on {one['name']}: {backend['reason'] or 'no reason known'}"
        for one, backend in found
        if not backend["healthy"]
    ]
    if ill:
        return bad(
            "; ".join(ill), "start it there, or name where it is: swarmctl up --backend URL; swarmctl logs"
        )
    if not found:
        return bad(
            "no host of the swarm serves a model",
            "serve one: swarmctl up --model FILE.gguf, or --backend URL",
        )
    return good(f"{len(found)} of {len(found)} are healthy")


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("nodes.reached", "other hosts reach this one", SWARM, judge_reached),
    Check("nodes.live", "all hosts are live", SWARM, judge_live),
    Check("nodes.versions", "all hosts run one version", SWARM, judge_versions),
    Check("nodes.backends", "backends are healthy", SWARM, judge_backends),
)
