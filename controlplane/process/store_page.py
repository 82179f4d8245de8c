"""What the console tells of the store: ``GET /store``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controlplane.process.daily import DailyBackups
from controlplane.process.storing import OpenStore
from controlplane.services.control import ControlService
from controlplane.store.etcd.health import ClusterHealth, MemberHealth


def store_page(
    opened: OpenStore, control: ControlService, backups: DailyBackups
) -> Callable[[], Awaitable[Mapping[str, object]]]:
    """Asked at every call; with etcd it takes a second at most."""

    async def page() -> Mapping[str, object]:
        document: dict[str, object] = {
            "kind": "embedded" if opened.etcd is None else "etcd",
            "generation": control.mirror.generation,
            "revision": control.mirror.revision,
            "age_s": round(control.mirror.age_s, 3),
            "leading": control.leads,
        }
        if opened.etcd is not None:
            document |= _of(await opened.etcd.health())
        else:
            document |= await backups.facts()
        return document

    return page


def _of(health: ClusterHealth) -> dict[str, Any]:
    return {
        "quorum": health.quorum,
        "members": [_member(one) for one in health.members],
        "warnings": list(health.warnings()),
    }


def _member(one: MemberHealth) -> dict[str, Any]:
    return {
        "endpoint": one.endpoint,
        "answers": not one.problem,
        "version": one.version,
        "leader": one.leads,
        "learner": one.learner,
        "latency_ms": round(one.latency_s * 1000, 2),
        "bytes": one.bytes,
        "bytes_in_use": one.bytes_in_use,
        "bytes_quota": one.bytes_quota,
        "alarms": list(one.alarms),
    }
