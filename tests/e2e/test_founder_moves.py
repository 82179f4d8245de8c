"""A founder whose disk is gone is restored elsewhere, and one that moves: nobody enrols again.

Where the founder has another address then, a member is told it once, without a token, and goes on running.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually, swarmctl

pytestmark = pytest.mark.timeout(240)


def _known(founder: Host) -> dict[str, Any]:
    """What must survive."""
    return {
        "nodes": sorted((one["id"], one["name"]) for one in founder.json("node", "list")["items"]),
        "tokens": [one["id"] for one in founder.json("token", "list")["items"]],
    }


def _live(founder: Host, name: str) -> bool:
    done = swarmctl("node", "show", name, "--json", data_dir=founder.data_dir)
    return '"state": "live"' in done.stdout


def _key(host: Host, root: Path) -> Path:
    path = root / "recovery.key"
    done = swarmctl("store", "backup", "--show-key", data_dir=host.data_dir)
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    return path


def test_a_founder_whose_disk_is_gone_is_restored_elsewhere(tmp_path: Path) -> None:
    swarm, backend = Swarm(tmp_path), Backend("llama")
    try:
        a, b = swarm.pair("--backend", backend.url)
        eventually("a has b's model", lambda: "llama" in a.models())
        node_id = b.runtime["node_id"]
        before = _known(a)
        key, safe = _key(a, tmp_path), tmp_path / "safe.swarmbackup"
        done = swarmctl("store", "backup", "--to", str(safe), data_dir=a.data_dir)
        assert done.returncode == 0, done.stderr
        cut = tmp_path / "cut.swarmbackup"
        cut.write_bytes(safe.read_bytes()[:-7])
        family = a.family()
        a.signal(signal.SIGKILL)
        a.wait()
        # Its children end by their lifeline, and write until then.
        eventually("nothing of a is left", lambda: not any(one.is_running() for one in family))
        a.close()
        shutil.rmtree(a.data_dir)

        elsewhere = swarm.host("elsewhere")
        elsewhere.name, elsewhere.ports = a.name, a.ports
        for refused, words in ((cut, "damaged"), (key, "is no backup")):
            done = swarmctl(
                "store", "restore", str(refused), "--key-file", str(key), data_dir=elsewhere.data_dir
            )
            assert (done.returncode, words in done.stderr) == (1, True), done.stderr
            assert not (elsewhere.data_dir / "controlplane").exists()
        done = swarmctl("store", "restore", str(safe), "--key-file", str(key), data_dir=elsewhere.data_dir)
        assert done.returncode == 0, done.stderr
        elsewhere.up()
        eventually("b is live again", lambda: _live(elsewhere, node_id), within_s=60)
        assert _known(elsewhere) == before
        assert b.runtime["node_id"] == node_id
        eventually("b's model is served through it", lambda: "llama" in elsewhere.models(), within_s=60)
        c = swarm.host("c")
        c.join(elsewhere.token(), elsewhere)
        eventually("c is live", lambda: _live(elsewhere, "c"))
    finally:
        swarm.close()
        backend.close()


def test_a_founder_moves_and_its_members_follow(tmp_path: Path) -> None:
    swarm, backend = Swarm(tmp_path), Backend("llama")
    try:
        a, b = swarm.pair("--backend", backend.url)
        eventually("a has b's model", lambda: "llama" in a.models())
        node_id, pid = b.runtime["node_id"], b.pid("sidecar")
        tokens = a.json("token", "list")["items"]
        key, moved = _key(a, tmp_path), tmp_path / "moved.swarmbackup"
        refused = swarmctl("store", "move", "--to", str(moved), data_dir=a.data_dir)
        assert refused.returncode == 1
        assert "swarmctl down" in refused.stderr
        before = _known(a)
        a.close()
        done = swarmctl("store", "move", "--to", str(moved), data_dir=a.data_dir)
        assert done.returncode == 0, done.stderr
        done = swarmctl("up", *a.flags(founder=True)[2:], data_dir=a.data_dir)
        assert done.returncode == 1
        assert "given up" in done.stderr
        there = swarm.host("there")
        done = swarmctl("store", "restore", str(moved), "--key-file", str(key), data_dir=there.data_dir)
        assert done.returncode == 0, done.stderr
        there.up()
        assert _known(there) == before
        again = swarmctl("store", "restore", str(moved), "--key-file", str(key), data_dir=a.data_dir)
        assert "keeps a swarm already" in again.stderr

        kept = (b.data_dir / "node" / "identity.json").read_bytes()
        nobody = b.ctl("join", f"127.0.0.1:{a.ports['join']}")
        assert (nobody.returncode, "nobody answers" in nobody.stderr) == (75, True), nobody.stderr
        assert (b.data_dir / "node" / "identity.json").read_bytes() == kept

        assert not b.get("/control", admin=True)["connected"]
        done = b.ctl("join", f"127.0.0.1:{there.ports['join']}")
        assert done.returncode == 0, done.stderr
        eventually("b is there", lambda: b.get("/control", admin=True)["connected"], within_s=60)
        assert b.get("/control", admin=True)["address"] == f"127.0.0.1:{there.ports['control']}"
        eventually("b's model is served there", lambda: "llama" in there.models(), within_s=60)
        assert (b.runtime["node_id"], b.pid("sidecar")) == (node_id, pid), "it went on running"
        assert there.json("token", "list")["items"] == tokens, "nothing was spent"
        assert f"127.0.0.1:{there.ports['join']}" == b.get("/.well-known/swarmplane")["join"][0]
        assert b.ctl("join", b.url).returncode == 0, "a member that was told points there"
        b.close()
        b.start(["up"], founder=False)
        eventually("b found it by itself after a restart", lambda: b.get("/control", admin=True)["connected"])
        assert _live(there, node_id)
    finally:
        swarm.close()
        backend.close()
