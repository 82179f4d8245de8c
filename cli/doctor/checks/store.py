"""The store of the swarm, where this host runs a control plane: ``GET /store`` of its console."""

from __future__ import annotations

from typing import Any, Final

from cli.doctor.asking import STORE, Facts
from cli.doctor.check import AnyCheck, Check, SkippedError, Verdict, bad, good
from cli.output import ago
from swarmplane.etcd import advice, nearly_full, too_old

OLD_BACKUP_S: Final = 2 * 86_400.0
SLOW_MS: Final = 100.0
"""etcd's own heartbeat; slower answers unsettle its elections."""
LARGE_FILE_BYTES: Final = 1 << 30


def _members(store: Facts) -> list[dict[str, Any]]:
    if store.get("kind") != "etcd":
        raise SkippedError("the store is embedded")
    members: list[dict[str, Any]] = store["members"]
    return members


def _answering(store: Facts) -> list[dict[str, Any]]:
    found = [one for one in _members(store) if one["answers"]]
    if not found:
        raise SkippedError("no member answers")
    return found


def judge_quorum(store: Facts) -> Verdict:
    """Without a majority nothing can be changed; reads and requests go on."""
    members = _members(store)
    silent = [one["endpoint"] for one in members if not one["answers"]]
    if not store["quorum"]:
        return bad(
            f"etcd has no leader; silent: {', '.join(silent) or 'nobody'}; "
            f"what is known is {store['age_s']:.0f} s old",
            "start members until a majority runs, and let them reach each other; requests go on meanwhile",
            "error",
        )
    if silent:
        return bad(
            f"silent: {', '.join(silent)}; the others have a majority",
            "start it again, before another one fails (etcdctl endpoint health)",
        )
    return good(f"{len(members)} of {len(members)} members answer")


def judge_alarms(store: Facts) -> Verdict:
    """Etcd with an alarm takes no writes."""
    found = [f"{one['endpoint']}: {alarm}" for one in _answering(store) for alarm in one["alarms"]]
    if found:
        return bad(
            "; ".join(found),
            "NOSPACE: etcdctl compact, then defrag, then alarm disarm; CORRUPT: replace that member",
        )
    return good("none")


def judge_space(store: Facts) -> Verdict:
    """At its quota etcd raises an alarm."""
    found = _answering(store)
    large = [
        f"{one['endpoint']} holds {one['bytes'] / 2**20:.0f} MiB ({one['bytes_in_use'] / 2**20:.0f} in use) "
        f"of {quota}"
        for one in found
        if (quota := nearly_full(one["bytes"], one.get("bytes_quota", 0)))
    ]
    if large:
        return bad("; ".join(large), "etcdctl compact and defrag, or a larger --quota-backend-bytes")
    return good(f"{max(one['bytes'] for one in found) / 2**20:.1f} MiB")


def judge_latency(store: Facts) -> Verdict:
    """Writes wait for a majority's disks."""
    slow = [one for one in _answering(store) if one["latency_ms"] > SLOW_MS]
    if slow:
        return bad(
            "; ".join(f"{one['endpoint']} answers in {one['latency_ms']:.0f} ms" for one in slow),
            "give etcd a disk of its own (SSD) and a near network, and see what else runs there",
        )
    return good(f"{max(one['latency_ms'] for one in _answering(store)):.1f} ms")


def judge_version(store: Facts) -> Verdict:
    """Old servers lack calls, or lose data."""
    versions = {one["endpoint"]: one["version"] for one in _answering(store) if one["version"]}
    if not versions:
        raise SkippedError("etcd does not tell its version to this user")
    old = {name: version for name, version in versions.items() if advice(version)}
    useless = {name: version for name, version in old.items() if too_old(version)}
    if old:
        worst = useless or old
        said = "; ".join(f"{name} runs {version}" for name, version in worst.items())
        words = advice(next(iter(worst.values())))
        return bad(said, f"upgrade etcd: {words}", "error" if useless else None)
    return good(", ".join(sorted(set(versions.values()))))


def judge_file(store: Facts) -> Verdict:
    """The embedded store is small; one that grows holds something that nobody deletes."""
    if "path" not in store:
        raise SkippedError("the store is etcd")
    detail = f"{store['path']}, {store['bytes'] / 2**20:.1f} MiB"
    if store["bytes"] > LARGE_FILE_BYTES:
        return bad(detail, "make a backup (swarmctl store backup), and move to etcd: swarmctl store migrate")
    return good(detail)


def judge_backup(store: Facts) -> Verdict:
    """The swarm of a founder whose disk dies is as old as its last backup."""
    if "path" not in store:
        raise SkippedError("etcd has snapshots of its own (etcdctl snapshot save)")
    age_s = store["backup_age_s"]
    fix = "make one, and keep it on another machine: swarmctl store backup"
    failed = [one for one in store.get("warnings", ()) if "failed" in one]
    if failed:
        return bad("; ".join(failed), f"make room or see to the rights of control.backup_dir; {fix}")
    if age_s is None:
        return bad("there is no backup of this swarm yet", fix)
    if age_s > OLD_BACKUP_S:
        return bad(f"the newest backup is {ago(age_s)} old", fix)
    return good(f"{store['backup_path']}, {ago(age_s)} old")


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("store.quorum", "etcd has a majority", STORE, judge_quorum),
    Check("store.alarms", "etcd has no alarms", STORE, judge_alarms, "error"),
    Check("store.space", "etcd has space", STORE, judge_space),
    Check("store.latency", "etcd answers fast", STORE, judge_latency),
    Check("store.version", "etcd is new enough", STORE, judge_version),
    Check("store.file", "the embedded store is small", STORE, judge_file),
    Check("store.backup", "there is a fresh backup", STORE, judge_backup),
)
