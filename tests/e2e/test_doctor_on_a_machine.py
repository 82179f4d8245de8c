"""``swarmctl doctor`` on machines whose kernel, devices, memory and ports are broken, in namespaces.

Files of the kernel are covered by others; what reads them, and what asks the platform's own tools, is real.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from swarmplane.datadir import DataDir
from tests.e2e.examined import MOUNTS, before_path, failing, rows, tool, where
from tests.e2e.hosts import eventually, swarmctl
from tests.e2e.lan import ip, lan

pytestmark = [pytest.mark.process, pytest.mark.root, pytest.mark.timeout(240), MOUNTS]
LOGIND = Path("/etc/systemd/logind.conf")
COVERED = (Path("/sys/bus/pci/devices"), Path("/sys/class/power_supply"), LOGIND)
CONTAINER = "Docker" if Path("/.dockerenv").exists() else "Podman"
WSL = "5.15.167.4-microsoft-standard-WSL2\n"
MEMORY = (
    "MemTotal: 16314280 kB\nMemFree: 151200 kB\nMemAvailable: 212312 kB\nBuffers: 0 kB\nCached: 90000 kB\n"
)
"""What must stand there; the machine is about to swap."""
SMI_FAILS = """echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure \
that the latest NVIDIA driver is installed and running."
exit 9"""
SMI = "echo 'NVIDIA GeForce RTX 4090, 24564, 23028, 41'"


def _write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _covering(files: Path, **places: str) -> tuple[str, ...]:
    return tuple(f"mount --bind {files / name} {place}" for name, place in places.items())


def _founder(root: Path) -> Path:
    """A data directory with a control plane, which listens for other machines; clients are near."""
    DataDir(root).control_plane.mkdir(parents=True)
    (root / "config.toml").write_text('[control]\nlisten = "0.0.0.0:11401"\njoin_listen = "0.0.0.0:11405"\n')
    return root


def _carries(netns: tuple[str, ...], name: str) -> bool:
    command = [*netns, "cat", f"/sys/class/net/{name}/operstate"]
    return subprocess.run(command, capture_output=True, timeout=10, check=True).stdout == b"up\n"


@contextmanager
def _keeping_mdns(namespace: str) -> Iterator[None]:
    """Somebody is at the port of mDNS and shares it with nobody."""
    program = (
        'import socket, sys; s = socket.socket(2, 2); s.bind(("", 5353)); print("held", flush=True); '
        "sys.stdin.read()"
    )
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdin is not None
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        try:
            yield
        finally:
            held.stdin.close()
            held.wait(10)


@pytest.mark.skipif(not all(one.exists() for one in COVERED), reason="this machine has no such files")
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="a driver answers here, whatever is on the bus")
@pytest.mark.breaks("network.wsl", "network.container", "network.containers", "network.multicast")
@pytest.mark.breaks("machine.memory", "machine.gpu", "machine.sleep")
def test_what_is_wrong_with_a_machine_is_found(tmp_path: Path) -> None:
    """One machine that has all of it: a laptop with a dead driver, in WSL, in a container, and so on."""
    files, tools, data_dir = tmp_path / "files", tmp_path / "bin", _founder(tmp_path / "data")
    _write(
        files, osrelease=WSL, meminfo=MEMORY, supplies__BAT0__type="Battery\n",
        **{"pci__0000:01:00.0__vendor": "0x10de\n", "pci__0000:01:00.0__class": "0x030000\n"},
        logind="[Login]\n#HandleLidSwitch=suspend\nHandleLidSwitch=ignore\n",
    )  # fmt: skip
    kernel = _covering(
        files, osrelease="/proc/sys/kernel/osrelease", pci=str(COVERED[0]), supplies=str(COVERED[1])
    )
    inside = ("mount -t tmpfs none /run", "touch /run/.containerenv")
    tool(tools, "wslinfo", "printf 'n\\000a\\000t\\000\\n\\000'")
    tool(tools, "nvidia-smi", SMI_FAILS)
    with lan(1) as (host,):
        ip("-n", host, "address", "flush", "dev", "lan0")
        ip("-n", host, "address", "add", "172.17.0.2/16", "dev", "lan0")
        ip("-n", host, "route", "replace", "default", "via", "172.17.0.1")
        ip("-n", host, "link", "add", "docker0", "type", "bridge")
        ip("-n", host, "address", "add", "172.18.0.1/16", "dev", "docker0")
        ip("-n", host, "link", "add", "vethc", "type", "veth", "peer", "name", "eth0c")
        ip("-n", host, "link", "set", "vethc", "master", "docker0", "up")
        for name in ("eth0c", "docker0"):
            ip("-n", host, "link", "set", name, "up")
        netns = ("ip", "netns", "exec", host)
        eventually("the bridge has a carrier", lambda: _carries(netns, "docker0"))
        short = (*kernel, *inside, *_covering(files, meminfo="/proc/meminfo"))
        with _keeping_mdns(host):
            found = rows(*netns, *where(*short), data_dir=data_dir, env=before_path(tools))
        for check, detail, fix in (
            ("network.wsl", "WSL's network is nat", "networkingMode=mirrored"),
            ("network.container", f"{CONTAINER} gave it 172.17.0.2, 172.18.0.1", "--network host"),
            ("network.containers", "listens at 127.0.0.1:11400", "client.listen="),
            ("network.multicast", "another program keeps UDP port 5353 for itself", "stop it, or have it"),
            ("machine.memory", "0.2 of 15.6 GiB are free", "unload models"),
            ("machine.gpu", "an accelerator of NVIDIA is in this machine", "nvidia-smi must list it"),
            ("machine.sleep", "sleeps when its lid is closed", "systemctl mask sleep.target"),
        ):
            assert found[check]["ok"] is False, found[check]
            assert detail in found[check]["detail"]
            assert fix in found[check]["fix"]

        ip("-n", host, "address", "flush", "dev", "lan0")
        ip("-n", host, "address", "add", "192.168.7.2/24", "dev", "lan0")
        ip("-n", host, "route", "replace", "default", "via", "192.168.7.1")
        tool(tools, "wslinfo", "echo mirrored")
        tool(tools, "nvidia-smi", SMI)
        command = found["network.containers"]["fix"].partition(", restart")[0].split()
        assert command[0] == "swarmctl", "what it says to type, typed"
        assert swarmctl(*command[1:], data_dir=data_dir).returncode == 0
        awake = (*kernel, *inside, *_covering(files, logind=str(LOGIND)))
        found = rows(*netns, *where(*awake), data_dir=data_dir, env=before_path(tools))
        assert failing(found) <= {"host.running", "network.names", "network.exposed", "machine.disk"}, (
            "all of it is mended"
        )
        assert found["network.wsl"]["detail"] == "WSL's network is mirrored"
        assert found["network.container"]["detail"] == f"in {CONTAINER}, with 192.168.7.2, 172.18.0.1"
        assert found["network.containers"]["detail"] == "containers ask 172.18.0.1"
        assert found["network.multicast"]["detail"] == "192.168.7.2: sent and received"
        assert "RTX 4090" in found["machine.gpu"]["detail"]
        assert found["machine.sleep"]["ok"] is found["machine.memory"]["ok"] is True


@pytest.mark.breaks("network.multicast", "machine.memory")
def test_a_group_that_can_t_be_joined_and_a_container_s_memory_are_found(tmp_path: Path) -> None:
    group = {"memory.max": "1073741824\n", "memory.current": "1070000000\n", "memory.stat": "anon 1\n"}
    _write(tmp_path / "group", **group)
    with lan(1) as (host,):
        netns = ("ip", "netns", "exec", host)
        none = "net.ipv4.igmp_max_memberships=0"
        subprocess.run([*netns, "sysctl", "-q", none], check=True, timeout=10)
        cover = where(f"mount --bind {tmp_path / 'group'} /sys/fs/cgroup")
        found = rows(*netns, *cover, data_dir=tmp_path / "data")
    assert "does not come back; 10.77.0.1: no buffer space available" in found["network.multicast"]["detail"]
    assert "224.0.0.251" in found["network.multicast"]["fix"]
    assert found["machine.memory"]["detail"] == "0.0 of 1.0 GiB are free"
    assert (found["machine.memory"]["ok"], found["network.multicast"]["ok"]) == (False, False)
    assert "swarmctl model list" in found["machine.memory"]["fix"]


@pytest.mark.skipif(not shutil.which("nft"), reason="no nft is installed here")
@pytest.mark.breaks("network.firewall", "network.multicast")
def test_a_real_firewall_is_found_and_the_commands_open_it(tmp_path: Path) -> None:
    with lan(1) as (host,):
        netns = ("ip", "netns", "exec", host)

        def nft(*words: str) -> None:
            subprocess.run([*netns, "nft", *words], check=True, capture_output=True, timeout=10)

        nft("add", "table", "inet", "filter")
        nft("add", "chain inet filter input { type filter hook input priority 0; policy drop; }")
        nft("add", "rule", "inet", "filter", "input", "iif", "lo", "accept")
        data_dir = _founder(tmp_path / "data")
        found = rows(*netns, data_dir=data_dir)
        row = found["network.firewall"]
        assert row["ok"] is False
        assert row["detail"] == "nft lets nobody through to 5353/udp, 11401/tcp, 11405/tcp"
        assert "10.77.0.1: nothing within 2.5 s" in found["network.multicast"]["detail"]
        assert found["network.multicast"]["ok"] is False
        for command in row["fix"].split("; "):
            words = command.removeprefix("sudo ").split()
            subprocess.run([*netns, *words], check=True, capture_output=True, timeout=10)
        found = rows(*netns, data_dir=data_dir)
        assert found["network.firewall"]["detail"] == "nft lets all ports of this host through"
        assert found["network.multicast"]["detail"] == "10.77.0.1: sent and received"


MAC = """
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from cli.doctor.checks import surroundings
from cli.doctor.examine import rows
from cli.doctor.host import examined
from cli.invocation import Invocation
surroundings.sys = SimpleNamespace(platform="darwin")
surroundings.platform = SimpleNamespace(mac_ver=lambda: ("15.1", ("", "", ""), "arm64"))
surroundings.os = SimpleNamespace(geteuid=lambda: 501)
check = next(one for one in surroundings.CHECKS if one.id == sys.argv[2])
host = examined(Invocation(named_data_dir=Path(sys.argv[1])))
(row,) = rows([check], {check.source: check.source.gather(host)})
print(json.dumps(row.document()))
"""


@pytest.mark.breaks("network.permission", recorded="macOS alone asks; its error, and a socket that gets it")
def test_a_datagram_that_is_not_let_out_is_found(tmp_path: Path) -> None:
    """What macOS says to a program without the permission, Linux says where there is no way out."""
    data_dir = _founder(tmp_path)
    with lan(1) as (host,):
        inside = ("ip", "netns", "exec", host)
        command = [*inside, sys.executable, "-c", MAC, str(data_dir), "network.permission"]

        def row() -> Any:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            return json.loads(done.stdout)

        ip("-n", host, "route", "add", "unreachable", "224.0.0.0/4")
        found = row()
        assert (found["ok"], found["severity"]) == (False, "error")
        assert found["detail"] == "macOS 15 keeps this program from the local network"
        assert "Privacy & Security, Local Network" in found["fix"]
        ip("-n", host, "route", "delete", "unreachable", "224.0.0.0/4")
        assert row()["detail"] == "macOS 15 lets this program reach the local network"
