"""Instances and hosts that start while etcd has no majority: they wait, say so, and are whole afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.hosts import Backend, Swarm, eventually
from tests.e2e.instances import Instance
from tests.e2e.test_failures import post
from tests.store.conftest import QUICK_ELECTIONS
from tests.store.etcd_server import WITHOUT, etcd_binary, running

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(180),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
    pytest.mark.skipif(os.name == "nt", reason="processes are stopped by signals"),
]
WAITS = "waiting for a majority of etcd's members"


def test_an_instance_waits_for_the_majority(tmp_path: Path) -> None:
    with running(3, QUICK_ELECTIONS) as etcd:
        instance = Instance(tmp_path, "i1", etcd.endpoints)
        try:
            instance.start()
            instance.signal(signal.SIGTERM)
            assert instance.ended() == 0
            lost = etcd.members[:2]
            for member in lost:
                member.kill()

            instance.log.write_text("")
            instance.start(wait=False)
            eventually("it says that it waits", lambda: WAITS in instance.log.read_text())
            instance.signal(signal.SIGINT)
            assert instance.ended(5) == 0, "Ctrl-C works while it waits"

            instance.log.write_text("")
            instance.start(wait=False)
            eventually("it waits again", lambda: WAITS in instance.log.read_text())
            assert instance.running
            etcd.revive(*lost)
            eventually("it serves", lambda: bool(instance.facts), within_s=60)
            eventually("it decides", lambda: instance.json("election", "list")["items"][0]["holder"])
            assert instance.ctl("token", "create").returncode == 0
        finally:
            instance.close()


def test_a_host_serves_meanwhile_and_its_instance_comes_later(tmp_path: Path) -> None:
    backend, swarm = Backend("llama"), Swarm(tmp_path)
    try:
        with running(3, QUICK_ELECTIONS) as etcd:
            host = swarm.host("founder")
            flags = ("--etcd", ",".join(etcd.endpoints), "--backend", backend.url)
            host.up(*flags)
            eventually("it serves", lambda: post(host, "llama")[0] == 200)
            host.close()
            lost = etcd.members[:2]
            for member in lost:
                member.kill()
            host.up(*flags)
            eventually("it serves what it knows", lambda: post(host, "llama")[0] == 200)
            etcd.revive(*lost)
            eventually(
                "its instance came",
                lambda: host.ctl("token", "create").returncode == 0,
                within_s=90,
                every_s=1,
            )
    finally:
        swarm.close()
        backend.close()
