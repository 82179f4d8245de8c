"""``swarmctl gateway`` and an open swarm, as a running host tells of them."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.hosts import Host, Swarm, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    swarm = Swarm(tmp_path_factory.mktemp("gateways"))
    try:
        yield swarm.pair()
    finally:
        swarm.close()


def known(host: Host) -> Any:
    return host.get("/.well-known/swarmplane")


def _wait(host: Host, wanted: dict[str, str]) -> None:
    eventually("the swarm knows of it", lambda: urls(host) == wanted)


def urls(host: Host) -> dict[str, str]:
    return {one["name"]: one["gateway_url"] for one in host.json("status")["nodes"]}


def test_it_is_told_at_once_by_everybody_and_kept(pair: tuple[Host, Host]) -> None:
    a, b = pair
    pids = a.pid("sidecar"), b.pid("sidecar")
    assert known(a)["gateway"] is False
    done = a.ctl("gateway", "on", "--json")
    assert json.loads(done.stdout) == {"schema": "swarmctl.gateway/v1", "gateway": True, "running": True}
    assert "listens on loopback only" in done.stderr
    assert known(a)["gateway"] is True
    url = f"http://127.0.0.1:{a.ports['listen']}"
    for host in (a, b):
        _wait(host, {"a": url, "b": ""})
    assert f"gateway  {url} (a)" in b.ctl("status").stdout
    assert b.ctl("gateway", "on").returncode == 0
    eventually("both are", lambda: all(urls(a).values()))
    assert (a.pid("sidecar"), b.pid("sidecar")) == pids, "nothing was started again"

    b.close()
    b.start(["up"], founder=False)
    assert known(b)["gateway"] is True, "it is kept"
    assert a.ctl("gateway", "off").stdout.strip() == "this host is no gateway"
    assert known(a)["gateway"] is False
    eventually("the swarm knows of one", lambda: [name for name, one in urls(a).items() if one] == ["b"])


def test_the_environment_is_stronger_and_that_is_said(tmp_path: Path) -> None:
    one = Host(tmp_path, "alone")
    done = one.ctl("gateway", "on", env={"SWARMPLANE_NODE__GATEWAY": "false"})
    assert "SWARMPLANE_NODE__GATEWAY" in done.stderr
    assert done.stdout == "this host is no gateway, once it runs: swarmctl up\n"
    assert one.ctl("gateway", "on").stdout == "this host is a gateway, once it runs: swarmctl up\n"


def test_the_admin_page_shows_what_the_doctor_finds(pair: tuple[Host, Host]) -> None:
    _, b = pair
    url = f"http://127.0.0.1:{b.ports['admin']}/doctor"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, method="POST"), timeout=30) as answer:
        rows = {one["id"]: one["state"] for one in json.load(answer)["items"]}
    said = {one["id"]: one["state"] for one in json.loads(b.ctl("doctor", "--json").stdout)["items"]}
    assert rows == said
    assert rows["control.stream"] == "ok"
    page = urllib.request.Request(url, method="POST", headers={"accept": "text/html,*/*"})
    with opener.open(page, timeout=30) as answer:
        text = answer.read().decode()
    assert all(f"<td>{check}</td>" in text for check in rows)


def test_what_a_host_is_made_of_is_told_to_the_whole_swarm(pair: tuple[Host, Host]) -> None:
    a, b = pair
    eventually("it is told", lambda: b.json("node", "show", "a")["condition"])
    told = b.json("node", "show", "a")
    assert told["cpus"] == os.cpu_count()
    assert told["disk_bytes"] >= told["condition"]["disk_free_bytes"] > 0
    assert told["memory_bytes"] == psutil.virtual_memory().total
    assert told["gpus"] is None or all(one["name"] for one in told["gpus"])
    assert told["condition"]["pressure"] is not None
    shown = b.ctl("node", "show", "a").stdout
    assert f"{told['cpus']} threads" in shown
    assert "of disk free" in shown
    assert told["cpu"] in a.ctl("status").stdout


def test_an_open_swarm_is_told_and_warned_of(pair: tuple[Host, Host]) -> None:
    a, _ = pair
    assert (known(a)["open"], "is open" in a.ctl("status").stdout) == (False, False)
    assert a.ctl("enrolment", "open").returncode == 0
    eventually("it is told", lambda: known(a)["open"])
    assert "warning  this swarm is open" in a.ctl("status").stdout
    assert a.ctl("enrolment", "close").returncode == 0
    eventually("it is told no longer", lambda: not known(a)["open"])
