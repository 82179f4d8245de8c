"""``swarmctl doctor`` on machines whose network, disk and names are broken for real, in namespaces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.examined import MOUNTS, before_path, rows, tool, where
from tests.e2e.hosts import eventually
from tests.e2e.lan import address_of, drop_multicast, ip, lan, on_terminal

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.mark.root
@pytest.mark.breaks("network.exposed", "network.multicast", "network.peers", "network.mtu")
@pytest.mark.breaks("control.reachable", "trust.open")
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

        def rows_of_b() -> dict[str, Any]:
            return rows(*inside, data_dir=home["b"])

        def well() -> bool:
            found = rows_of_b()
            return all(found[f"network.{what}"]["ok"] for what in ("multicast", "peers", "mtu", "binds"))

        eventually("all is well", well, every_s=1)
        found = rows_of_b()
        heard = f"{address_of(2)}: sent and received; 1 of 1 neighbours heard"
        assert found["network.multicast"]["detail"] == heard
        assert found["trust.open"]["fix"] == "swarmctl enrolment close"
        assert found["trust.clock"]["ok"] is True
        assert found["network.exposed"]["ok"] is True
        founder = rows("ip", "netns", "exec", one, data_dir=home["a"])
        assert founder["network.exposed"]["severity"] == "warning"
        assert "0.0.0.0:11400" in founder["network.exposed"]["detail"]

        drop_multicast((one, two))
        found = rows_of_b()["network.multicast"]
        assert (found["ok"], "a on this network" in found["detail"]) == (False, True)
        assert "client isolation" in found["fix"]

        shape = ("root", "tbf", "rate", "1gbit", "burst", "1000", "limit", "1000000")
        tc = ["ip", "netns", "exec", two, "tc", "qdisc", "replace", "dev", "lan0", *shape]
        done = subprocess.run(tc, check=False, capture_output=True, text=True, timeout=10)
        drops = done.returncode == 0
        if drops:
            found = rows_of_b()
            assert found["network.peers"]["ok"] is True, "small packets arrive"
            assert (found["network.mtu"]["ok"], found["network.mtu"]["severity"]) == (False, "error")
            assert "mtu 1280" in found["network.mtu"]["fix"]

        ip("-n", one, "link", "set", "lan0", "down")
        found = rows_of_b()
        assert found["network.peers"]["ok"] is False
        assert "network.firewall" in found["network.peers"]["fix"]
        assert found["network.mtu"]["state"] == "skipped"
        assert found["control.reachable"]["ok"] is False
    if not drops:
        pytest.skip(f"all but network.mtu: this kernel drops no packets by their size: {done.stderr}")


@pytest.mark.root
@MOUNTS
@pytest.mark.breaks("machine.disk")
def test_a_full_disk_is_found(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    full = where(f"mount -t tmpfs -o size=1m none {disk}", f"head -c 900K /dev/zero > {disk}/filled")
    row = rows(*full, data_dir=disk)["machine.disk"]
    assert (row["ok"], row["severity"]) == (False, "error")
    assert row["detail"].startswith("0 MiB free")
    assert "--data-dir DIR" in row["fix"]


@pytest.mark.root
@MOUNTS
@pytest.mark.breaks("network.names")
def test_a_localhost_that_is_another_machine_is_found(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.9 localhost\n")
    other = where(f"mount --bind {tmp_path / 'hosts'} /etc/hosts")
    row = rows(*other, data_dir=tmp_path / "data")["network.names"]
    assert (row["ok"], row["severity"]) == (False, "error")
    assert "localhost means 192.0.2.9" in row["detail"]
    assert "127.0.0.1 localhost" in row["fix"]


@pytest.mark.breaks("network.binds")
def test_an_address_of_another_machine_can_t_be_bound(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[client]\nlisten = ["198.51.100.7:11400"]\n')
    row = rows(data_dir=tmp_path)["network.binds"]
    assert (row["ok"], row["severity"]) == (False, "error")
    assert "198.51.100.7: no interface of this machine has this address" in row["detail"]
    assert "client.listen=0.0.0.0:11400" in row["fix"]


IPTABLES = "printf -- '-P INPUT DROP\\n-A INPUT -i lo -j ACCEPT\\n'"


@pytest.mark.skipif(sys.platform != "linux", reason="these are tools of Linux")
@pytest.mark.parametrize(
    ("name", "script", "fix"),
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
@pytest.mark.breaks("network.firewall", recorded="answers of tools that this machine need not have")
def test_a_firewall_that_is_shut_is_found(tmp_path: Path, name: str, script: str, fix: str) -> None:
    tool(tmp_path / "bin", name, script)
    (tmp_path / "config.toml").write_text("[node]\nlan = true\n")
    row = rows(data_dir=tmp_path, env=before_path(tmp_path / "bin"))["network.firewall"]
    assert row["ok"] is False
    assert "11400/tcp" in row["detail"]
    assert row["fix"].startswith(fix)


@pytest.mark.skipif(sys.platform == "win32", reason="scripts of a shell")
@pytest.mark.breaks("models.rpc")
def test_an_engine_without_rpc_is_found_and_one_with_it_is_not(tmp_path: Path) -> None:
    server = tmp_path / "bin" / "llama-server"
    tool(tmp_path / "bin", "llama-server", "echo --model --ctx-size")
    (tmp_path / "config.toml").write_text(f'[engine]\nmodels = ["x"]\nbinary = "{server}"\n')
    row = rows(data_dir=tmp_path)["models.rpc"]
    assert (row["ok"], row["severity"]) == (False, "info")
    assert "was built without RPC" in row["detail"]
    assert "GGML_RPC=ON" in row["fix"]
    tool(tmp_path / "bin", "llama-server", "echo --model --rpc SERVERS")
    assert "ggml-rpc-server is not installed" in rows(data_dir=tmp_path)["models.rpc"]["detail"]
    tool(tmp_path / "bin", "ggml-rpc-server", "exit 0")
    assert rows(data_dir=tmp_path)["models.rpc"]["ok"] is True
