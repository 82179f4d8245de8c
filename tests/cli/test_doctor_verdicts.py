"""Every check of ``swarmctl doctor``: a broken fact and the fix that is told; and the fact whole."""

from __future__ import annotations

import errno
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.doctor.asking import Swarm
from cli.doctor.check import AnyCheck, Severity, SkippedError
from cli.doctor.checks import ALL
from cli.doctor.checks.control import Table
from cli.doctor.checks.credentials import Life, Skew
from cli.doctor.checks.listeners import Exposure, Listener, Ports
from cli.doctor.checks.machine import Disk, Files
from cli.doctor.checks.models import Engines, Memory
from cli.doctor.checks.network import Names, Trips
from cli.doctor.checks.processes import Running
from cli.doctor.checks.rpc import Split
from cli.doctor.checks.surroundings import Containers, Inside, Permission, Sleep
from cli.doctor.firewalls import Firewall, Port
from cli.doctor.multicast import Heard
from cli.doctor.trips import Trip
from cli.exposure import keyless
from swarmplane.addresses import Address
from swarmplane.hardware.gpus import Accelerators, GpuReading
from swarmplane.hardware.memory import Memory as Room
from swarmplane.interpreter import Interpreter
from swarmplane.inventory import Gpu

CHECKS: dict[str, AnyCheck] = {check.id: check for check in ALL}
WEEK_S = 604_800.0
GIB = 1 << 30


def _node(name: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "id": f"id-{name}",
        "name": name,
        "state": "live",
        "unreachable_reason": "",
        "peer_addresses": ["192.0.2.1:11403"],
        "software_version": "1.0.0",
        "push": {"sent": "1.9", "acked": "1.9", "nacked": "0.0", "nack_reason": ""},
        "backends": [{"name": "ollama", "healthy": True, "reason": ""}],
        **more,
    }


def _swarm(*nodes: dict[str, Any]) -> Swarm:
    return Swarm("id-a", nodes or (_node(),))


def _here(**more: Any) -> dict[str, Any]:
    return {
        "name": "local-8000", "kind": "vllm", "state": "ok", "reason": "", "models": [{}],
        "url": "http://127.0.0.1:8000", **more,
    }  # fmt: skip


def _etcd(*, quorum: bool = True, **more: Any) -> dict[str, Any]:
    one = {
        "endpoint": "etcd-1:2379",
        "answers": True,
        "version": "3.5.21",
        "latency_ms": 1.0,
        "bytes": 1 << 20,
        "bytes_in_use": 1 << 19,
        "alarms": [],
    }
    return {
        "kind": "etcd",
        "quorum": quorum,
        "age_s": 4.0,
        "members": [one, {**one, "endpoint": "etcd-2:2379", **more}],
    }


def _embedded(**more: Any) -> dict[str, Any]:
    return {
        "kind": "embedded",
        "path": "store.db",
        "bytes": 1 << 20,
        "backup_path": "a.backup",
        "backup_age_s": 60.0,
        "warnings": [],
        **more,
    }


STREAM = {
    "joined": True,
    "connected": True,
    "instance": "i",
    "address": "192.0.2.1:11401",
    "acked": "1.9",
    "table_version": "1.9",
    "table_age_s": 900.0,
    "last_nack": None,
}
AWAY = {**STREAM, "connected": False, "reason": "connection refused"}
REFUSED = {**STREAM, "last_nack": {"version": "1.10", "reason": "unknown field"}}
OURS, THEIRS = Address("127.0.0.1", 11400), Address("0.0.0.0", 11400)
PUSH = {"sent": "1.10", "acked": "1.9", "nacked": "1.10", "nack_reason": "unknown field"}


@dataclass(frozen=True)
class Case:
    """A check, a fact that it finds fault with, one that it finds none with, and words of detail and fix."""

    id: str
    broken: Any
    whole: Any
    detail: str
    fix: str
    severity: Severity


def _case(of: str, broken: Any, whole: Any, detail: str, fix: str, severity: Severity = "warning") -> Case:
    return Case(of, broken, whole, detail, fix, severity)


_TRIP = Trip("b", "192.0.2.2:11403", 0.002, large=True)
NETWORK = (
    _case(
        "network.binds",
        {"192.0.2.9": "no interface of this machine has this address", "127.0.0.1": ""},
        {"0.0.0.0": ""},
        "192.0.2.9",
        "client.listen=0.0.0.0:11400",
        "error",
    ),
    _case(
        "network.names",
        Names(("192.0.2.9",), 0.0, "m", ""),
        Names(("::1", "127.0.0.1"), 0.1, "m", ""),
        "localhost means 192.0.2.9",
        "127.0.0.1 localhost",
        "error",
    ),
    _case(
        "network.names",
        Names((), 0.0, "m", ""),
        Names(("127.0.0.1",), 0.1, "m", ""),
        "nothing",
        "hosts file",
        "error",
    ),
    _case(
        "network.names",
        Names(("127.0.0.1",), 4.0, "m", ""),
        Names(("127.0.0.1",), 0.9, "m", ""),
        "4.0 s",
        "resolvectl status",
    ),
    _case(
        "network.names",
        Names(("127.0.0.1",), 0.1, "m", "Name or service not known"),
        Names(("127.0.0.1",), 0.1, "m", ""),
        "not known",
        "127.0.1.1 m",
    ),
    _case(
        "network.multicast",
        Heard({"192.0.2.1": "Permission denied", "192.0.2.2": ""}, {}),
        Heard({"192.0.2.1": ""}, {}),
        "192.0.2.1: Permission denied",
        "224.0.0.0/4",
    ),
    _case(
        "network.multicast",
        Heard({"192.0.2.1": ""}, {"b": False}),
        Heard({"192.0.2.1": ""}, {"b": True, "without-mdns": False}),
        "b on this network can't be heard",
        "client isolation",
    ),
    _case(
        "network.peers",
        Trips((Trip("b", "192.0.2.2:11403", reason="timed out"),)),
        Trips((_TRIP,)),
        "b at 192.0.2.2:11403: timed out",
        "--advertise HOST",
    ),
    _case(
        "network.peers", Trips((Trip("b", "x:1", 0.3, large=True),)), Trips((_TRIP,)), "b 300 ms", "a wire"
    ),
    _case(
        "network.mtu",
        Trips((_TRIP, Trip("c", "x:1", 0.001, large=False))),
        Trips((_TRIP, Trip("c", "x:1", 0.001))),
        "lost on the way to c",
        "mtu 1280",
        "error",
    ),
    _case(
        "network.firewall",
        Firewall("ufw", (Port(5353, "udp"), Port(11401))),
        Firewall("ufw"),
        "5353/udp, 11401/tcp",
        "sudo ufw allow 11401/tcp; sudo ufw allow 5353/udp",
    ),
    _case(
        "network.firewall",
        Firewall("windows", (Port(11401),)),
        Firewall(""),
        "11401/tcp",
        "netsh advfirewall firewall add rule name=swarmplane dir=in action=allow",
    ),
    _case(
        "machine.sleep", Sleep("macos", 10.0), Sleep("macos", None), "after 10 min", "sudo pmset -c sleep 0"
    ),
    _case("machine.sleep", Sleep("linux", 0.0), Sleep("linux", None), "its lid", "systemctl mask"),
    _case("machine.sleep", Sleep("windows", 30.0), Sleep("windows", None), "30 min", "standby-timeout-ac 0"),
    _case("network.wsl", "nat", "mirrored", "is nat", "networkingMode=mirrored"),
    _case(
        "network.container",
        Inside("Docker", ("172.17.0.2",)),
        Inside("Docker", ("192.168.1.5", "172.17.0.1")),
        "172.17.0.2",
        "--network host",
    ),
    _case(
        "network.containers",
        Containers(("172.17.0.1",), (OURS,)),
        Containers(("172.17.0.1",), (OURS, Address("172.17.0.1", 11400))),
        "127.0.0.1:11400",
        "client.listen=127.0.0.1:11400,172.17.0.1:11400 client.trusted_nets=172.17.0.0/16",
        "info",
    ),
    _case(
        "network.containers",
        Containers(("10.88.0.1",), (OURS,)),
        Containers(("10.88.0.1",), (THEIRS,)),
        "127.0.0.1:11400",
        "host.docker.internal:11400",
        "info",
    ),
    _case(
        "network.permission",
        Permission(15, root=False, error=errno.EHOSTUNREACH),
        Permission(15, root=False, error=0),
        "macOS 15 keeps",
        "Local Network",
        "error",
    ),
    _case(
        "network.permission",
        Permission(26, root=False, error=errno.EPERM),
        Permission(15, root=True, error=errno.EHOSTUNREACH),
        "macOS 26 keeps",
        "sudo swarmctl service install",
        "error",
    ),
    _case("machine.memory", Room(GIB // 4, 16 * GIB), Room(GIB, 16 * GIB), "0.2 of 16.0 GiB", "unload"),
    _case(
        "machine.gpu",
        Accelerators((), ("nvidia",)),
        Accelerators((GpuReading(Gpu("NVIDIA H100", "nvidia", 80 * GIB)),)),
        "of NVIDIA is in this machine",
        "--gpus all",
    ),
    _case(
        "machine.gpu",
        Accelerators((GpuReading(Gpu("RTX 4090", "nvidia", 24 * GIB)),), ("amd",)),
        Accelerators(()),
        "seen: RTX 4090 (24 GiB)",
        "modprobe amdgpu",
    ),
    _case("trust.open", True, False, "without a token", "swarmctl enrolment close"),
    _case(
        "models.rpc",
        Split("", takes_workers=False, worker=""),
        Split("s", takes_workers=True, worker="w"),
        "llama-server is not installed",
        "GGML_RPC=ON",
        "info",
    ),
    _case(
        "models.rpc",
        Split("/bin/llama-server", takes_workers=False, worker="w"),
        Split("s", takes_workers=True, worker="w"),
        "built without RPC",
        "llama.cpp release",
        "info",
    ),
    _case(
        "models.rpc",
        Split("s", takes_workers=True, worker=""),
        Split("s", takes_workers=True, worker="w"),
        "ggml-rpc-server is not",
        "ggml-rpc-server",
        "info",
    ),
)
CASES = (
    _case(
        "host.running",
        Running(None, ready=False, draining=False),
        Running(7, ready=True, draining=False),
        "does not run",
        "swarmctl up -d",
        "error",
    ),
    _case(
        "host.running",
        Running(7, ready=False, draining=False),
        Running(7, ready=True, draining=False),
        "not ready",
        "swarmctl logs",
    ),
    _case(
        "host.running",
        Running(7, ready=True, draining=True),
        Running(7, ready=True, draining=False),
        "drains",
        "swarmctl up -d",
    ),
    _case("host.settings", "unknown key 'lisen'", "", "lisen", "swarmctl config check", "error"),
    _case("host.sidecar", "timed out", "", "timed out", "swarmctl restart", "error"),
    _case("host.ready", "no table", "", "no table", "control.reachable", "error"),
    _case("host.client", "timed out", "", "timed out", "swarmctl restart", "error"),
    _case("host.controlplane", "timed out", "", "timed out", "swarmctl restart", "error"),
    _case(
        "network.ports",
        Ports({"client": OURS}, (Listener(THEIRS, 9, "nginx"),), frozenset()),
        Ports({"client": OURS}, (Listener(Address("127.0.0.2", 11400), 9, "nginx"),), frozenset()),
        "nginx (pid 9)",
        "--listen HOST:PORT",
        "error",
    ),
    _case(
        "network.ports",
        Ports({"client": OURS}, (Listener(OURS, 9, "nginx"),), frozenset({7})),
        Ports({"client": OURS}, (Listener(OURS, 7, "python"),), frozenset({7})),
        "nginx (pid 9)",
        "stop it",
        "error",
    ),
    _case(
        "network.ports",
        Ports({"admin": OURS}, (Listener(OURS, 0, ""),), frozenset()),
        Ports({"admin": OURS}, (), frozenset()),
        "another user's process",
        "--admin-listen",
        "error",
    ),
    _case(
        "network.exposed",
        Exposure((THEIRS,), "none"),
        Exposure((THEIRS,), "lan"),
        "0.0.0.0:11400",
        "swarmctl up --listen 127.0.0.1:11400",
    ),
    _case(
        "network.exposed",
        Exposure((THEIRS,), "none"),
        Exposure((), "none"),
        "need no key",
        "swarmctl key create",
    ),
    _case(
        "network.exposed",
        Exposure((THEIRS,), "lan", keyless("lan", {"keys": 0})),
        Exposure((THEIRS,), "lan", keyless("lan", {"keys": 1})),
        "there is none",
        "swarmctl key create",
    ),
    *NETWORK,
    _case(
        "network.admin", (Address("0.0.0.0", 11402),), (), "0.0.0.0:11402", "--admin-listen 127.0.0.1:11402"
    ),
    _case("machine.disk", Disk("d", GIB // 2), Disk("d", 2 * GIB), "0.5 GiB", "make room"),
    _case("machine.disk", Disk("d", 1 << 20), Disk("d", 1 << 30), "1 MiB", "--data-dir DIR", "error"),
    _case("machine.files", Files(1_024, 10_512), Files(sys.maxsize, 10_512), "1,024", "ulimit -Hn"),
    *(
        _case(
            "machine.python",
            Interpreter("3.13.0", broken),
            Interpreter("3.13.0", "distribution"),
            detail,
            "make clean demo PYTHON=/usr/bin/python3",
            "info",
        )
        for broken, detail in (
            ("plain", "3.13.0, built without optimisations: a sidecar's own work takes 1.4 times"),
            ("debug", "3.13.0, a debug build"),
            ("free-threaded", "3.13.0, a free-threaded build"),
        )
    ),
    _case(
        "control.names",
        {"m.local": "unknown", "127.0.0.1": ""},
        {"m.local": ""},
        "m.local: unknown",
        "hosts file",
    ),
    _case(
        "control.names", {"m.local": "unknown"}, {"m.local": ""}, "m.local", "swarmctl join ADDRESS", "error"
    ),
    _case(
        "control.reachable",
        Swarm("id-a", problem="connection refused"),
        _swarm(),
        "connection refused",
        "swarmctl join ADDRESS",
        "error",
    ),
    _case("control.stream", AWAY, STREAM, "connection refused", "control.reachable", "error"),
    _case(
        "control.table", Table(AWAY, stale=True), Table(STREAM, stale=False), "from disk", "control.reachable"
    ),
    _case(
        "control.table",
        Table(AWAY, stale=False),
        Table({**AWAY, "table_age_s": 5.0}, stale=False),
        "900 s old",
        "control.reachable",
    ),
    _case(
        "control.refused", REFUSED, {**REFUSED, "acked": "1.11"}, "unknown field", "swarmctl restart", "error"
    ),
    _case(
        "control.refusals",
        _swarm(_node("b", push=PUSH)),
        _swarm(_node("b", push={**PUSH, "acked": "2.1"})),
        "b refused 1.10",
        "nodes.versions",
    ),
    _case(
        "trust.certificates",
        (Life("this node's", -7_200, WEEK_S),),
        (Life("this node's", 0.6 * WEEK_S, WEEK_S),),
        "ended 2h ago",
        "swarmctl login ADDRESS",
        "error",
    ),
    _case(
        "trust.certificates",
        (Life("this node's", 0.4 * WEEK_S, WEEK_S),),
        (Life("a person's", 0.1 * WEEK_S, WEEK_S, renews=False),),
        "not renewed",
        "control.reachable",
    ),
    _case("trust.clock", Skew(90.0, 60.0), Skew(-30.0, 60.0), "1m ahead", "timedatectl set-ntp true"),
    _case(
        "trust.clock", Skew(95.0, 0.0), Skew(1.0, 0.0), "control stream measured", "timedatectl set-ntp true"
    ),
    _case(
        "trust.clock", Skew(-7_200.0, 60.0), Skew(0.1, 60.0), "2h behind", "timedatectl set-ntp true", "error"
    ),
    _case("trust.keys", ("node/key.pem",), (), "node/key.pem", "chmod 600 node/key.pem", "error"),
    _case(
        "nodes.reached",
        _swarm(_node(unreachable_reason="no route")),
        _swarm(),
        "no route",
        "--advertise HOST",
    ),
    _case(
        "nodes.live",
        _swarm(_node(), _node("b", state="suspect")),
        _swarm(),
        "b is suspect",
        "swarmctl node remove",
    ),
    _case(
        "nodes.live",
        _swarm(_node(), _node("b", unreachable_reason="no route")),
        _swarm(_node(unreachable_reason="told by nodes.reached")),
        "no route",
        "swarmctl doctor",
    ),
    _case(
        "nodes.versions",
        _swarm(_node(), _node("b", software_version="0.9.0")),
        _swarm(_node(), _node("b")),
        "0.9.0: b; 1.0.0: a",
        "same version",
    ),
    _case(
        "nodes.backends",
        _swarm(_node(backends=[{"name": "vllm", "healthy": False, "reason": "refused"}])),
        _swarm(),
        "vllm on a: refused",
        "--backend URL",
    ),
    _case("nodes.backends", _swarm(_node(backends=[])), _swarm(), "no host", "--model FILE.gguf"),
    _case(
        "backends.here",
        [_here(state="needs key", reason="it wants a key")],
        [_here(), _here(state="busy")],
        "local-8000 needs key: it wants a key",
        "swarmctl backend add http://127.0.0.1:8000 --key-file FILE",
    ),
    _case(
        "backends.here",
        [_here(), _here(state="unreachable", reason="nothing listens there")],
        [_here()],
        "local-8000 unreachable: nothing listens there",
        "swarmctl backend remove local-8000",
    ),
    _case(
        "backends.here",
        [_here(state="is a node", reason="it is one")],
        [_here()],
        "is a node",
        "swarmctl join ADDRESS",
    ),
    _case(
        "store.quorum",
        _etcd(quorum=False, answers=False),
        _etcd(),
        "no leader",
        "until a majority runs",
        "error",
    ),
    _case("store.quorum", _etcd(answers=False), _etcd(), "silent: etcd-2:2379", "before another one fails"),
    _case(
        "store.alarms", _etcd(alarms=["NOSPACE"]), _etcd(), "etcd-2:2379: NOSPACE", "alarm disarm", "error"
    ),
    _case("store.space", _etcd(bytes=1_800 << 20), _etcd(), "1800 MiB", "defrag"),
    _case("store.latency", _etcd(latency_ms=400.0), _etcd(), "400 ms", "disk of its own"),
    _case("store.version", _etcd(version="3.4.22"), _etcd(version="3.5.16"), "3.4.22", "3.4.23", "error"),
    _case("store.version", _etcd(version="3.5.15"), _etcd(version=""), "3.5.15", "upgrade etcd: use 3.5.16"),
    _case("store.file", _embedded(bytes=2 * GIB), _embedded(), "2048.0 MiB", "swarmctl store migrate"),
    _case(
        "store.backup", _embedded(backup_age_s=4 * 86_400.0), _embedded(), "4d old", "swarmctl store backup"
    ),
    _case("store.backup", _embedded(backup_age_s=None), _embedded(), "no backup", "swarmctl store backup"),
    _case(
        "store.backup",
        _embedded(warnings=["the last backup failed: disk full"]),
        _embedded(warnings=["no daily backups are made"]),
        "disk full",
        "control.backup_dir",
    ),
    _case(
        "models.engine",
        Engines("auto", (), needed=True),
        Engines("auto", ("xllamacpp",), needed=True),
        "no engine",
        "swarmplane[engine]",
        "error",
    ),
    _case(
        "models.engine",
        Engines("xllamacpp", (), needed=True),
        Engines("auto", ("llama-server",), needed=False),
        "xllamacpp is not",
        "on the PATH",
        "error",
    ),
    _case(
        "models.memory",
        Memory(8 * GIB, 16 * GIB, ()),
        Memory(8 * GIB, 4 * GIB, ()),
        "16.0 GiB",
        "smaller models",
    ),
    _case(
        "models.memory", Memory(8 * GIB, 0, ("qwen",)), Memory(8 * GIB, GIB, ()), "qwen", "--models-dir DIR"
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.detail}")
def test_what_is_broken_is_found_and_the_fix_is_told(case: Case) -> None:
    check = CHECKS[case.id]
    verdict = check.judge(case.broken)
    assert not verdict.ok
    assert case.detail in verdict.detail
    assert case.fix in verdict.fix
    assert (verdict.severity or check.severity) == case.severity


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.detail}")
def test_what_is_whole_is_left_alone(case: Case) -> None:
    verdict = CHECKS[case.id].judge(case.whole)
    assert verdict.ok
    assert not verdict.fix


def test_every_check_has_a_case_and_an_id_of_its_own() -> None:
    assert len(CHECKS) == len(ALL) >= 25
    assert {case.id for case in CASES} == set(CHECKS)


@pytest.mark.parametrize(
    ("check", "fact"),
    [
        ("control.stream", {"joined": False}),
        ("control.refused", {"joined": False}),
        ("control.refusals", Swarm("id-a", problem="away")),
        ("nodes.reached", Swarm("id-z", (_node(),))),
        ("store.quorum", _embedded()),
        ("store.backup", _etcd()),
        ("store.file", _etcd()),
        ("store.space", {**_etcd(), "members": [{**_etcd()["members"][0], "answers": False}]}),
        ("models.engine", Engines("auto", (), needed=False)),
        ("machine.python", Interpreter("3.11.7", "unknown")),
        ("backends.here", []),
        ("network.mtu", Trips((Trip("b", "x:1", reason="timed out"),))),
    ],
)
def test_what_is_no_question_here_is_skipped_with_the_reason(check: str, fact: Any) -> None:
    with pytest.raises(SkippedError, match=r"\w+ \w+"):
        CHECKS[check].judge(fact)


def test_every_check_is_documented_and_says_why() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "doctor.md"
    rows = re.findall(
        r"^\| `(\w+\.\w+)` \| (.+) \| (\w+) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(row[:3] for row in rows) == sorted((check.id, check.title, check.severity) for check in ALL)
    assert all(row[3].endswith((".", ":")) for row in rows)
