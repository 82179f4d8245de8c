"""``swarmctl doctor`` before a real etcd: members away, no majority, no space left, TLS, users."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.store.etcd.access import EtcdAccess
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import StoreUnavailableError
from swarmplane.etcd import RECOMMENDED
from tests.e2e.hosts import Host, Swarm, eventually
from tests.store.conftest import QUICK_ELECTIONS
from tests.store.etcd_certificates import TestAuthority
from tests.store.etcd_front import fronted
from tests.store.etcd_server import WITHOUT, Etcd, etcd_binary, etcd_version, running
from tests.store.test_etcd_access import administer, field

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(180),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
    pytest.mark.skipif(os.name == "nt", reason="processes are stopped by signals"),
]
QUOTA_BYTES = 8 * 1024 * 1024
LATENCY = "store.latency"
"""Says what this machine is like just now."""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    swarm = Swarm(tmp_path)
    yield swarm.host("founder")
    swarm.close()


def examined(host: Host) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and what is said of the store by check."""
    done = host.ctl("doctor", "--json")
    rows = json.loads(done.stdout)["items"]
    return done.returncode, {row["id"]: row for row in rows if row["id"].startswith("store.")}


def failed(host: Host) -> set[str]:
    """Checks of the store that fail, whatever this machine and this etcd's version are like."""
    return {name for name, row in examined(host)[1].items() if row["ok"] is False} - {
        LATENCY,
        "store.version",
    }


def fill(etcd: Etcd) -> None:
    """Write until no space is left."""

    async def filling() -> None:
        async with EtcdStore.open(EtcdAccess.of(etcd.endpoints, prefix="/large/")) as store:
            for number in range(QUOTA_BYTES // 1_000):
                await store.put(f"k{number}", b"x" * 500_000)

    with pytest.raises(StoreUnavailableError, match="space is used up"):
        asyncio.run(filling())


def etcdctl(etcd: Etcd, *arguments: str) -> str:
    binary = etcd_binary()
    assert binary is not None
    command = [str(binary.with_name("etcdctl")), "--endpoints", ",".join(etcd.endpoints), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.breaks("store.quorum", "store.alarms")
def test_doctor_says_how_members_are_and_what_to_do(host: Host) -> None:
    with running(3, (*QUICK_ELECTIONS, f"--quota-backend-bytes={QUOTA_BYTES}")) as etcd:
        names = [endpoint.rpartition("/")[2] for endpoint in etcd.endpoints]
        host.up("--etcd", ",".join(etcd.endpoints))
        eventually("all is well", lambda: not failed(host), every_s=0.5)
        _, rows = examined(host)
        assert rows["store.quorum"]["detail"] == "3 of 3 members answer"
        assert rows["store.version"]["ok"] is (etcd_version() >= RECOMMENDED)
        assert ".".join(map(str, etcd_version())) in rows["store.version"]["detail"]

        one, two, _ = etcd.members
        one.kill()
        eventually("one is missed", lambda: failed(host) == {"store.quorum"}, every_s=0.5)
        status, rows = examined(host)
        row = rows["store.quorum"]
        assert (status, row["severity"]) == (0, "warning")
        assert row["detail"] == f"silent: {names[0]}; the others have a majority"
        assert "before another one fails" in row["fix"]
        two.kill()

        def no_majority() -> bool:
            return bool(examined(host)[1]["store.quorum"]["severity"] == "error")

        eventually("the majority is missed", no_majority, every_s=0.5)
        status, rows = examined(host)
        assert status == 1
        assert f"silent: {names[0]}, {names[1]}" in rows["store.quorum"]["detail"]
        assert rows["store.alarms"]["ok"] is True, "no leader is no alarm"
        etcd.revive(one, two)
        eventually("all is well again", lambda: not failed(host), every_s=0.5, within_s=60)

        fill(etcd)
        eventually("the alarm is told", lambda: "store.alarms" in failed(host), every_s=0.5)
        status, rows = examined(host)
        row = rows["store.alarms"]
        assert (status, row["severity"]) == (1, "error")
        assert "alarm disarm" in row["fix"]
        told = row["detail"].split("; ")
        assert set(told) <= {f"{name}: NOSPACE" for name in names}
        assert len(told) == len(set(told)), "once of each member that has it"
        refused = host.ctl("token", "create")
        assert refused.returncode == 75, refused.stderr
        assert "compact and defragment" in refused.stderr
        binary = etcd_binary()
        if binary is not None and binary.with_name("etcdctl").exists():
            # As the row says.
            shown = json.loads(etcdctl(etcd, "endpoint", "status", "-w", "json"))
            etcdctl(etcd, "del", "--prefix", "/large/")
            revision = max(one["Status"]["header"]["revision"] for one in shown) + 1
            etcdctl(etcd, "compact", str(revision))
            etcdctl(etcd, "defrag")
            etcdctl(etcd, "alarm", "disarm")
            eventually("it is mended", lambda: not failed(host), every_s=0.5)
            assert host.ctl("token", "create").returncode == 0


@pytest.mark.breaks("store.latency")
@pytest.mark.breaks("store.space", "store.version", recorded="what a member says that is large, or old")
def test_doctor_finds_a_member_that_is_slow_large_or_old(host: Host) -> None:
    with running(1, QUICK_ELECTIONS) as etcd, fronted(etcd.endpoints[0]) as front:
        host.up("--etcd", front.endpoint)
        eventually("all is well", lambda: not failed(host), every_s=0.5)
        front.late_s = 0.2
        front.told = {
            "version": "3.4.22",
            "dbSize": 1_800 << 20,
            "dbSizeInUse": 1_700 << 20,
            "dbSizeQuota": 2 << 30,
        }
        status, rows = examined(host)
        assert status == 1
        name = front.endpoint.rpartition("/")[2]
        for check, severity, detail, fix in (
            ("store.latency", "warning", f"{name} answers in ", "give etcd a disk of its own"),
            (
                "store.space",
                "warning",
                f"{name} holds 1800 MiB (1700 in use) of its quota",
                "compact and defrag",
            ),
            ("store.version", "error", f"{name} runs 3.4.22", "upgrade etcd: 3.4.23 is the oldest"),
        ):
            row = rows[check]
            assert (row["ok"], row["severity"]) == (False, severity)
            assert row["detail"].startswith(detail)
            assert fix in row["fix"]


def test_doctor_is_let_in_by_certificates(host: Host, tmp_path: Path) -> None:
    authority = TestAuthority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    certificate, key = authority.pair("etcd", host="etcd.internal").write(tmp_path, "etcd")
    own_certificate, own_key = authority.pair("control plane").write(tmp_path, "own")
    flags = [f"--cert-file={certificate}", f"--key-file={key}", f"--trusted-ca-file={tmp_path / 'ca.pem'}"]
    with running(1, (*QUICK_ELECTIONS, *flags, "--client-cert-auth"), scheme="https") as etcd:
        host.up(
            *("--etcd", etcd.endpoints[0], "--etcd-ca", str(tmp_path / "ca.pem")),
            *("--etcd-cert", str(own_certificate), "--etcd-key", str(own_key)),
            *("--set", "etcd.server_name=etcd.internal"),
        )
        _well(host)
        etcd.members[0].kill()
        eventually("it is missed", lambda: "store.quorum" in failed(host), every_s=0.5)
        status, rows = examined(host)
        assert (status, rows["store.quorum"]["severity"]) == (1, "error")


def test_doctor_is_let_in_by_a_password_and_shows_none(host: Host, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("open sesame")
    with running(1, QUICK_ELECTIONS) as etcd:
        below = field(1, 2) + field(2, b"/swarmplane/") + field(3, b"/swarmplane0")
        administer(
            etcd.endpoints[0],
            ("UserAdd", field(1, b"root") + field(2, b"rootpw")),
            ("RoleAdd", field(1, b"root")),
            ("UserGrantRole", field(1, b"root") + field(2, b"root")),
            ("UserAdd", field(1, b"swarm") + field(2, b"open sesame")),
            ("RoleAdd", field(1, b"ours")),
            ("RoleGrantPermission", field(1, b"ours") + field(2, below)),
            ("UserGrantRole", field(1, b"swarm") + field(2, b"ours")),
            ("AuthEnable", b""),
        )
        host.up("--etcd", etcd.endpoints[0], "--etcd-user", "swarm", "--etcd-password-file", str(password))
        _well(host)
        for shown in (host.ctl("status", "--json"), host.ctl("doctor", "--json")):
            assert "sesame" not in shown.stdout + shown.stderr


def _well(host: Host) -> None:
    eventually("all is well", lambda: not failed(host), every_s=0.5)
    assert examined(host)[1]["store.quorum"]["detail"] == "1 of 1 members answer"
