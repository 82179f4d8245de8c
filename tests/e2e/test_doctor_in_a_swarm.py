"""``swarmctl doctor`` in a swarm whose parts are broken for real."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.examined import failing, rows_of
from tests.e2e.hosts import Backend, Swarm, eventually, free_ports
from tests.e2e.test_failures import post

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


@pytest.fixture
def backend() -> Iterator[Backend]:
    one = Backend("m")
    yield one
    one.close()


def _another_version(root: Path) -> dict[str, str]:
    """An environment in which the version that is installed is another one."""
    told = root / "older" / "swarmplane-0.0.9.dist-info" / "METADATA"
    told.parent.mkdir(parents=True)
    told.write_text("Metadata-Version: 2.1\nName: swarmplane\nVersion: 0.0.9\n")
    return {"PYTHONPATH": os.pathsep.join([str(root / "older"), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.breaks("backends.here", "nodes.backends", "nodes.versions")
@pytest.mark.breaks("nodes.reached", "nodes.live", "network.peers", "trust.open")
@pytest.mark.breaks("control.refused", "control.refusals", "store.backup", "store.file")
@pytest.mark.breaks("control.reachable", "control.stream", "control.table", "host.ready")
def test_what_breaks_in_a_swarm_is_found(swarm: Swarm, backend: Backend, tmp_path: Path) -> None:
    """One start of processes for all: of another version, at an address that is not theirs, and so on."""
    (closed,) = free_ports(1)
    a, b = swarm.host("a"), swarm.host("b")
    a.up("--set", "control.backups_kept=0")
    served = ("--backend", backend.url, "--backend", f"http://127.0.0.1:{closed}")
    b.join(a.token(), a, *served, "--advertise", "127.0.0.9", env=_another_version(tmp_path))
    started = {"backends.here", "nodes.backends", "nodes.versions"}
    eventually("they are found", lambda: failing(rows_of(b)) == started, within_s=60, every_s=0.5)
    rows = rows_of(b)
    assert "unreachable: nothing listens there" in rows["backends.here"]["detail"]
    assert f"swarmctl backend remove local-{closed}" in rows["backends.here"]["fix"]
    assert f"local-{closed} on b" in rows["nodes.backends"]["detail"]
    assert "--backend URL" in rows["nodes.backends"]["fix"]
    assert rows["nodes.versions"]["detail"].startswith("0.0.9: b; ")
    assert "install the same version" in rows["nodes.versions"]["fix"]
    assert rows["network.peers"]["ok"] is rows["network.mtu"]["ok"] is rows["nodes.live"]["ok"] is True

    assert post(a, "m")[0] == 503, "nobody is reached at that address"
    assert a.ctl("enrolment", "open").returncode == 0
    with (a.data_dir / "controlplane" / "store.db-left").open("wb") as file:
        file.truncate(2 << 30)
    table = b.data_dir / "table" / "routes.bin"
    kept = table.read_bytes()
    table.unlink()
    (table / "in-the-way").mkdir(parents=True)
    assert a.ctl("key", "create", "--name", "k").returncode == 0
    broken = started | {"nodes.reached", "trust.open", "control.refused", "control.refusals"}
    eventually("they are found", lambda: failing(rows_of(b)) >= broken, within_s=60, every_s=0.5)
    rows = rows_of(b)
    assert "it accepts no connection" in rows["nodes.reached"]["detail"]
    assert "swarmctl up --advertise HOST" in rows["nodes.reached"]["fix"]
    assert rows["trust.open"]["fix"] == "swarmctl enrolment close"
    assert rows["control.refused"]["severity"] == "error"
    for name, start in (("control.refused", "this host refused"), ("control.refusals", "b refused")):
        assert rows[name]["detail"].startswith(start)
        assert "not on disk" in rows[name]["detail"]
        assert "let its data directory be written to" in rows[name]["fix"]
    assert a.ctl("node", "cordon", "b").returncode == 0
    words = "routes, keys and denials are in force, but not on disk"
    eventually("it is told", lambda: words in rows_of(b)["control.refused"]["detail"], within_s=60)
    rows = rows_of(a)
    assert rows["network.peers"]["detail"].startswith("b at 127.0.0.9:")
    assert "--advertise HOST" in rows["network.peers"]["fix"]
    assert rows["nodes.live"]["detail"].startswith("b is live (1 other node(s) can't reach it")
    assert "swarmctl doctor there" in rows["nodes.live"]["fix"]
    assert (rows["store.backup"]["ok"], rows["store.file"]["ok"]) == (False, False)
    assert "there is no backup" in rows["store.backup"]["detail"]
    assert "swarmctl store backup" in rows["store.backup"]["fix"]
    assert "swarmctl store migrate" in rows["store.file"]["fix"]

    a.close()
    rows = rows_of(b)
    assert (rows["control.reachable"]["ok"], rows["control.stream"]["ok"]) == (False, False)
    assert "swarmctl join ADDRESS" in rows["control.reachable"]["fix"]
    assert rows["control.stream"]["fix"].startswith("see control.reachable")

    b.close()
    (table / "in-the-way").rmdir()
    table.rmdir()
    table.write_bytes(kept)
    b.start(["up"], founder=False)
    row = rows_of(b)["control.table"]
    assert (row["ok"], "from disk" in row["detail"]) == (False, True)
    assert "control.reachable" in row["fix"]

    b.close()
    table.unlink()
    b.start(["up"], founder=False)
    rows = rows_of(b)
    assert (rows["host.ready"]["ok"], rows["host.ready"]["severity"]) == (False, "error")
    assert "no route table yet" in rows["host.ready"]["detail"]
    assert "waits for its first route table" in rows["host.ready"]["fix"]
    assert rows["control.table"]["detail"] == "there is no route table yet: host.ready says so"
