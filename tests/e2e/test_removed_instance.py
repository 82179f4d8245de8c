"""A host that keeps the swarm with others is removed: its node and its instance go, the others stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.hosts import Swarm, eventually
from tests.store.conftest import QUICK_ELECTIONS
from tests.store.etcd_server import WITHOUT, etcd_binary, running

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(180),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
    pytest.mark.skipif(os.name == "nt", reason="processes are stopped by signals"),
]


def test_an_instance_goes_with_its_host_and_alone(tmp_path: Path) -> None:
    swarm = Swarm(tmp_path)
    try:
        with running(1, QUICK_ELECTIONS) as etcd:
            founder, second = swarm.host("founder"), swarm.host("second")
            founder.up("--etcd", etcd.endpoints[0])
            token = tmp_path / "instance.token"
            token.write_text(founder.token("--role", "instance"))
            address = f"127.0.0.1:{founder.ports['join']}"
            join = ["join", address, "--token-file", str(token)]
            second.start(join, "--etcd", etcd.endpoints[0], founder=True)
            eventually("both serve", lambda: second.ctl("node", "list").returncode == 0)
            second.close()
            second.up("--etcd", etcd.endpoints[0])
            eventually("it serves again", lambda: second.ctl("token", "list").returncode == 0)

            removed = founder.ctl("node", "remove", "second")
            assert removed.returncode == 0, removed.stderr
            eventually("it says so", lambda: "this instance was removed" in second.log.read_text())
            assert founder.ctl("token", "create").returncode == 0
            assert [one["name"] for one in founder.json("node", "list")["items"]] == ["founder"]
    finally:
        swarm.close()
