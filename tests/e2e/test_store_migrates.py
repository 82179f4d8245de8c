"""From the embedded store into etcd: the swarm goes on, nobody enrols again, and there is one truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hosts import Backend, Swarm, eventually, swarmctl
from tests.e2e.test_founder_moves import _known, _live
from tests.store.etcd_server import WITHOUT, etcd_binary, running

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(240),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
]


def test_a_swarm_moves_into_etcd(tmp_path: Path) -> None:
    swarm, backend = Swarm(tmp_path), Backend("llama")
    with running(1) as etcd:
        try:
            a, b = swarm.pair("--backend", backend.url)
            eventually("a has b's model", lambda: "llama" in a.models())
            before, node_id = _known(a), b.runtime["node_id"]
            flags = ("--etcd", ",".join(etcd.endpoints))
            refused = swarmctl("store", "migrate", *flags, data_dir=a.data_dir)
            assert "swarmctl down" in refused.stderr
            a.close()
            done = swarmctl("store", "migrate", *flags, data_dir=a.data_dir)
            assert done.returncode == 0, done.stderr
            assert "is in etcd now" in done.stdout
            again = swarmctl("store", "migrate", *flags, data_dir=a.data_dir)
            assert "already" in again.stdout, again.stderr
            lone = swarmctl(
                "up", *a.flags(founder=True)[2:], "--set", "etcd.endpoints=[]", data_dir=a.data_dir
            )
            assert (lone.returncode, "given up" in lone.stderr) == (1, True), lone.stderr
            a.up()
            status = a.json("status")
            assert status["store"]["kind"] == "etcd"
            eventually("b is live again", lambda: _live(a, node_id), within_s=60)
            assert _known(a) == before
            assert b.runtime["node_id"] == node_id
            eventually("b's model is served", lambda: "llama" in a.models(), within_s=60)
            other = swarm.host("other")
            other.up()
            other.close()
            taken = swarmctl("store", "migrate", *flags, data_dir=other.data_dir)
            assert (taken.returncode, "choose another prefix" in taken.stderr) == (1, True), taken.stderr
        finally:
            swarm.close()
            backend.close()
