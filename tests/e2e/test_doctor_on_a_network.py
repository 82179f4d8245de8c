"""``swarmctl doctor`` on machines whose network, disk and names are broken for real, in namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hosts import SWARMCTL, eventually
from tests.e2e.lan import address_of, drop_multicast, ip, lan, on_terminal

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]
NEEDED = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"),
    reason="mount namespaces need Linux, root and unshare",
)


def _rows(*before: str, data_dir: Path, env: dict[str, str] | None = None) -> dict[str, Any]:
    """What the doctor finds, by check, run behind the words ``before``."""
    done = subprocess.run(
        [*before, *SWARMCTL, "doctor", "--json", "--data-dir", str(data_dir)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert done.returncode == (1 if document["errors"] else 0)
    return {row["id"]: row for row in document["items"]}


@pytest.mark.root
def test_what_breaks_between_two_hosts_is_found(tmp_path: Path) -> None:
    home = {name: tmp_path / name / "data" / "swarmplane" for name in ("a", "b")}
    with (
        lan(2) as (one, two),
        on_terminal(one, "swarmctl up --lan --open --no-discover --name a", tmp_path / "a", ready_s=90),
        on_terminal(
            two, f"swarmctl join {address_of(1)} --yes --no-discover --name b", tmp_path / "b", ready_s=90
        ),
    ):
        inside = ("ip", "netns", "exec", two)

        def rows() -> dict[str, Any]:
            return _rows(*inside, data_dir=home["b"])

        def well() -> bool:
            found = rows()
            return all(found[f"network.{what}"]["ok"] for what in ("multicast", "peers", "mtu", "binds"))

        eventually("all is well", well, every_s=1)
        found = rows()
        heard = f"{address_of(2)}: sent and received; 1 of 1 neighbours heard"
        assert found["network.multicast"]["detail"] == heard
        assert found["trust.open"]["fix"] == "swarmctl enrolment close"
        assert found["trust.clock"]["ok"] is True
        assert found["network.exposed"]["ok"] is True
        founder = _rows("ip", "netns", "exec", one, data_dir=home["a"])
        assert founder["network.exposed"]["severity"] == "warning"
        assert "0.0.0.0:11400" in founder["network.exposed"]["detail"]

        drop_multicast((one, two))
        found = rows()["network.multicast"]
        assert (found["ok"], "a on this network" in found["detail"]) == (False, True)
        assert "client isolation" in found["fix"]

        shape = ("root", "tbf", "rate", "1gbit", "burst", "1000", "limit", "1000000")
        tc = ["ip", "netns", "exec", two, "tc", "qdisc", "replace", "dev", "lan0", *shape]
        done = subprocess.run(tc, check=False, capture_output=True, text=True, timeout=10)
        if done.returncode == 0:  # else this kernel can't drop packets by their size
            found = rows()
            assert found["network.peers"]["ok"] is True, "small packets arrive"
            assert (found["network.mtu"]["ok"], found["network.mtu"]["severity"]) == (False, "error")
            assert "mtu 1280" in found["network.mtu"]["fix"]

        ip("-n", one, "link", "set", "lan0", "down")
        found = rows()
        assert found["network.peers"]["ok"] is False
        assert "network.firewall" in found["network.peers"]["fix"]
        assert found["network.mtu"]["state"] == "skipped"
        assert found["control.reachable"]["ok"] is False


@pytest.mark.root
@NEEDED
def test_a_full_disk_is_found(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=1m none {disk} && head -c 900K /dev/zero > {disk}/filled && exec "$@"'
    row = _rows("unshare", "-m", "sh", "-c", mount, "sh", data_dir=disk)["machine.disk"]
    assert (row["ok"], row["severity"]) == (False, "error")
    assert row["detail"].startswith("0 MiB free")
    assert "--data-dir DIR" in row["fix"]


@pytest.mark.root
@NEEDED
def test_a_localhost_that_is_another_machine_is_found(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.9 localhost\n")
    mount = f'mount --bind {tmp_path / "hosts"} /etc/hosts && exec "$@"'
    row = _rows("unshare", "-m", "sh", "-c", mount, "sh", data_dir=tmp_path / "data")["network.names"]
    assert (row["ok"], row["severity"]) == (False, "error")
    assert "localhost means 192.0.2.9" in row["detail"]
    assert "127.0.0.1 localhost" in row["fix"]


def test_an_address_of_another_machine_can_t_be_bound(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[client]\nlisten = ["198.51.100.7:11400"]\n')
    row = _rows(data_dir=tmp_path)["network.binds"]
    assert (row["ok"], row["severity"]) == (False, "error")
    assert "198.51.100.7: no interface of this machine has this address" in row["detail"]
    assert "client.listen=0.0.0.0:11400" in row["fix"]


IPTABLES = "printf -- '-P INPUT DROP\\n-A INPUT -i lo -j ACCEPT\\n'"


def _tool(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="these are tools of Linux")
@pytest.mark.parametrize(
    ("tool", "script", "fix"),
    [
        ("ufw", "printf 'Status: active\\n\\n22/tcp  ALLOW  Anywhere\\n'", "sudo ufw allow 11400/tcp"),
        (
            "firewall-cmd",
            'if [ "$1" = --state ]; then echo running; else echo 22/tcp; fi',
            "sudo firewall-cmd --permanent --add-port=5353/udp --add-port=11400/tcp",
        ),
        (
            "iptables",
            IPTABLES,
            "sudo iptables -I INPUT -p tcp",
        ),
    ],
)
def test_a_firewall_that_is_shut_is_found(tmp_path: Path, tool: str, script: str, fix: str) -> None:
    _tool(tmp_path / "bin", tool, script)
    (tmp_path / "config.toml").write_text("[node]\nlan = true\n")
    row = _rows(data_dir=tmp_path, env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})[
        "network.firewall"
    ]
    assert row["ok"] is False
    assert "11400/tcp" in row["detail"]
    assert row["fix"].startswith(fix)


@pytest.mark.skipif(sys.platform == "win32", reason="scripts of a shell")
def test_an_engine_without_rpc_is_found_and_one_with_it_is_not(tmp_path: Path) -> None:
    server = tmp_path / "bin" / "llama-server"
    _tool(tmp_path / "bin", "llama-server", "echo --model --ctx-size")
    (tmp_path / "config.toml").write_text(f'[engine]\nmodels = ["x"]\nbinary = "{server}"\n')
    row = _rows(data_dir=tmp_path)["models.rpc"]
    assert (row["ok"], row["severity"]) == (False, "info")
    assert "was built without RPC" in row["detail"]
    assert "GGML_RPC=ON" in row["fix"]
    _tool(tmp_path / "bin", "llama-server", "echo --model --rpc SERVERS")
    assert "ggml-rpc-server is not installed" in _rows(data_dir=tmp_path)["models.rpc"]["detail"]
    _tool(tmp_path / "bin", "ggml-rpc-server", "exit 0")
    assert _rows(data_dir=tmp_path)["models.rpc"]["ok"] is True
