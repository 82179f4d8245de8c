"""Two hosts: what commands show of them, and how nodes go."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from swarmplane import models
from tests.e2e.hosts import SWARMCTL, Host, Swarm, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MODEL = "tiny-chain-q8"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        a, b = swarm.pair("--model", str(models.path(MODEL)), "--label", "zone=attic")
        eventually("A knows B's model", lambda: MODEL in a.models(), within_s=60)
        yield a, b
    finally:
        swarm.close()


def _nodes(host: Host) -> dict[str, Any]:
    return {item["name"]: item for item in host.json("node", "list")["items"]}


def test_nodes(pair: tuple[Host, Host]) -> None:
    a, b = pair
    nodes = _nodes(a)
    assert set(nodes) == {"a", "b"}
    assert nodes["b"]["id"] == b.runtime["node_id"]
    assert nodes["b"]["labels"] == {"zone": "attic"}
    assert nodes["b"]["peer_addresses"] == [f"127.0.0.1:{b.ports['peer']}"]
    assert nodes["a"]["founder"]
    assert not nodes["b"]["founder"]
    assert _nodes(b).keys() == nodes.keys(), "a node's certificate reads"
    shown = a.ctl("node", "show", "b").stdout
    assert "zone=attic" in shown
    assert MODEL in shown
    assert a.json("node", "show", nodes["b"]["id"])["name"] == "b"
    table = a.ctl("node", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "ID", "STATE"]
    missing = a.ctl("node", "show", "nobody")
    assert missing.returncode == 1
    assert "nobody" in missing.stderr


def test_models_and_routes(pair: tuple[Host, Host]) -> None:
    a, b = pair
    (model,) = a.json("model", "list")["items"]
    assert model["name"] == MODEL
    assert model["state"] == "ready"
    assert model["nodes"] == ["b"]
    assert a.json("model", "show", MODEL)["replicas"][0]["node_id"] == b.runtime["node_id"]
    (route,) = b.json("route", "list")["items"]
    assert route["name"] == MODEL
    assert MODEL in a.ctl("route", "list").stdout


def test_status(pair: tuple[Host, Host]) -> None:
    a, b = pair
    document = b.json("status")
    assert document["schema"] == "swarmctl.status/v1"
    assert document["runtime"] == b.runtime
    assert document["running"]
    assert document["problem"] == ""
    assert {node["name"] for node in document["nodes"]} == {"a", "b"}
    assert [model["name"] for model in document["models"]] == [MODEL]
    text = a.ctl("status").stdout
    assert a.url in text
    assert MODEL in text


def test_a_watch_prints_an_object_per_line(pair: tuple[Host, Host]) -> None:
    a, b = pair
    watch = subprocess.Popen(
        [*SWARMCTL, "route", "watch", "--json", "--data-dir", str(a.data_dir)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watch.stdout is not None
        first = json.loads(watch.stdout.readline())
        assert first["kind"] == "put"
        assert first["route"]["name"] == MODEL
        assert json.loads(watch.stdout.readline())["kind"] == "bookmark"
        assert a.ctl("node", "cordon", "b").returncode == 0
        changed = json.loads(watch.stdout.readline())
        while changed["kind"] == "bookmark":
            changed = json.loads(watch.stdout.readline())
        assert changed["revision"] > first["revision"]
        assert _nodes(a)["b"]["cordoned"]
    finally:
        watch.kill()
        watch.communicate(timeout=10)
        a.ctl("node", "uncordon", "b")
    eventually("B's model is ready again", lambda: a.json("model", "list")["items"][0]["state"] == "ready")
    assert b.ctl("node", "cordon", "a").returncode == 1, "a node acts on itself only"


def test_logs_of_the_engine(pair: tuple[Host, Host]) -> None:
    _, b = pair
    assert b.ctl("logs", "--engine", MODEL).stdout


def test_a_founder_with_members_does_not_leave(pair: tuple[Host, Host]) -> None:
    a, _ = pair
    done = a.ctl("leave")
    assert done.returncode == 1
    assert "b" in done.stderr
    assert "--force" in done.stderr
    assert a.get("/healthz")


def test_leaving_and_being_removed(pair: tuple[Host, Host], swarm: Swarm) -> None:
    a, _ = pair
    c, d = swarm.host("c"), swarm.host("d")
    c.join(a.token(), a)
    assert c.ctl("leave").returncode == 0
    assert c.wait() == 0
    assert "c" not in _nodes(a)
    assert not (c.data_dir / "node").exists()
    assert "c" in (c.data_dir / "config.toml").read_text(), "settings stay"
    d.join(a.token(), a)
    assert a.ctl("node", "remove", "d").returncode == 0
    assert "d" not in _nodes(a)
    refused = d.ctl("node", "list")
    assert refused.returncode == 1, "its certificate is refused"
    purged = d.ctl("leave", "--purge")
    assert purged.returncode == 0, purged.stderr
    assert "was removed" in purged.stderr
    assert d.wait() == 0
    assert not d.data_dir.exists()


@pytest.fixture
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    one = Swarm(tmp_path_factory.mktemp("more"))
    try:
        yield one
    finally:
        one.close()


def test_a_founder_alone_leaves_and_may_found_anew(swarm: Swarm) -> None:
    host = swarm.host("f")
    host.up()
    before = host.runtime["swarm"]
    assert host.ctl("leave").returncode == 0
    assert host.wait() == 0
    host.close()
    assert not (host.data_dir / "controlplane").exists()
    assert host.json("context", "list")["items"] == []
    host.up()
    assert host.runtime["swarm"] != before
