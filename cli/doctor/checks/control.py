"""This host and its control plane: reached, and its tables taken."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cli.client.local import get_json
from cli.doctor.asking import STREAM, SWARM, Facts, Swarm, asked, known
from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from swarmplane.addresses import parse_address
from swarmplane.errors import reason_of

OLD_S: Final = 60.0
_NOT_ON_DISK: Final = "not on disk"
"""Stands in a sidecar's refusal of what it could not keep."""


@dataclass(frozen=True, slots=True)
class Table:
    """The routes in use, and the stream that renews them."""

    control: Facts
    stale: bool
    """From disk: nobody confirmed it since the start."""


def judge_reachable(swarm: Swarm) -> Verdict:
    """Without it nothing changes; requests go on."""
    if swarm.problem:
        return bad(
            swarm.problem,
            "start it on its host (swarmctl up), or see that its ports are let through; where it moved: "
            "swarmctl join ADDRESS; requests go on meanwhile",
        )
    return good(f"it answers, and knows {len(swarm.nodes)} {'node' if len(swarm.nodes) == 1 else 'nodes'}")


def judge_stream(control: Facts) -> Verdict:
    """The stream brings tables and takes load."""
    _joined(control)
    if not control.get("connected"):
        return bad(
            f"the sidecar has no control stream: {control.get('reason') or 'no reason known'}",
            "see control.reachable and control.names; then swarmctl logs",
        )
    return good(f"to instance {control.get('instance')} at {control.get('address')}")


def _table(host: ExaminedHost) -> Table:
    control = asked(host, "admin", "/control")
    _joined(control)
    if control.get("table_version") == "0.0":
        raise SkippedError("there is no route table yet: host.ready says so")
    return Table(control, get_json(host.url("admin"), "/routes", timeout_s=2.0).get("stale") is True)


def judge_table(table: Table) -> Verdict:
    """A table that is old sends requests to where models were."""
    age_s = float(table.control.get("table_age_s") or 0.0)
    connected = table.control.get("connected") is True
    if table.stale and not connected:
        return bad(
            "routes are those of the last run, from disk",
            "bring the control plane back: see control.reachable",
        )
    if not connected and age_s > OLD_S:
        return bad(
            f"routes are {age_s:.0f} s old, and nothing confirms them",
            "bring the control plane back: see control.reachable",
        )
    return good(
        f"version {table.control.get('table_version')}" + ("" if connected else f", {age_s:.0f} s old")
    )


def judge_refusal(control: Facts) -> Verdict:
    """A refused update leaves this host with older routes than others have."""
    _joined(control)
    nack, owed = control.get("last_nack"), control.get("not_on_disk")
    stands = isinstance(nack, Mapping) and _is_behind(str(nack.get("version")), control.get("acked"))
    if owed and not stands:
        # A later table was taken into use, whose version says nothing of the disk.
        return bad(
            f"routes, keys and denials are in force, but {_NOT_ON_DISK} ({owed}): a restart forgets them",
            f"{_mends(_NOT_ON_DISK)}; it is tried again each second",
            "error",
        )
    if not isinstance(nack, Mapping):
        return good("this host refused no update")
    reason = str(nack.get("reason"))
    if stands and owed == "" and _NOT_ON_DISK in reason:
        return good(f"version {nack.get('version')} was refused once, and is on disk by now")
    if stands:
        return bad(
            f"this host refused version {nack.get('version')}: {reason}",
            f"{_mends(reason)}, then swarmctl restart here",
            "error",
        )
    return good(f"version {nack.get('version')} was refused once, and a later one was taken")


def judge_refusals(swarm: Swarm) -> Verdict:
    """The same, of all hosts."""
    found = [
        (node["name"], node["push"])
        for node in known(swarm)
        if node["push"]["nack_reason"] and _is_behind(node["push"]["nacked"], node["push"]["acked"])
    ]
    if found:
        fixes = dict.fromkeys(_mends(push["nack_reason"]) for _, push in found)
        return bad(
            "; ".join(f"{name} refused {push['nacked']}: {push['nack_reason']}" for name, push in found),
            f"{'; '.join(fixes)}, then swarmctl restart there",
        )
    return good("no host refuses its routes")


def _mends(reason: str) -> str:
    """What helps against a refusal for ``reason``."""
    if _NOT_ON_DISK in reason:
        return "let its data directory be written to, with room on its disk (machine.disk)"
    return "run the same version everywhere (nodes.versions)"


def _is_behind(nacked: str, acked: object) -> bool:
    """Whether the refusal of version ``nacked`` still stands. Versions are ``generation.revision``."""
    if not isinstance(acked, str):
        return True
    refused, taken = nacked.split("."), acked.split(".")
    if not all(part.isdigit() for part in (*refused, *taken)):
        return nacked != acked
    return [int(part) for part in refused] > [int(part) for part in taken]


def _joined(control: Mapping[str, Any]) -> None:
    if not control.get("joined"):
        raise SkippedError("this host is in no swarm")


def _names(host: ExaminedHost) -> Mapping[str, str]:
    """By name of a control plane: why it can't be looked up; empty where it can."""
    if host.record is None:
        raise SkippedError("this host is in no swarm")
    found = {}
    for text in host.record.control_addresses:
        address = parse_address(text)
        try:
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            found[address.host] = ""
        except OSError as error:
            found[address.host] = reason_of(error)
    return found


def judge_names(names: Mapping[str, str]) -> Verdict:
    """An address that is a name nobody knows can't be connected to."""
    unknown = [f"{name}: {reason}" for name, reason in names.items() if reason]
    if not unknown:
        return good(", ".join(names))
    return bad(
        "; ".join(unknown),
        "put the name into DNS or the hosts file, or say where the swarm is now: swarmctl join ADDRESS",
        "error" if len(unknown) == len(names) else "warning",
    )


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("control.names", "names of control planes are known", Source(gather=_names), judge_names),
    Check("control.reachable", "the control plane answers", SWARM, judge_reachable, "error"),
    Check("control.stream", "the sidecar is connected to it", STREAM, judge_stream, "error"),
    Check("control.table", "routes are fresh", Source(gather=_table), judge_table),
    Check("control.refused", "this host takes its routes", STREAM, judge_refusal),
    Check("control.refusals", "all hosts take their routes", SWARM, judge_refusals),
)
