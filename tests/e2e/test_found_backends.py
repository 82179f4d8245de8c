"""A machine with inference servers on it just has their models: found, listed and used from another node."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually, free_ports
from tests.fakes.kinds import KINDS

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]
WITHIN_S = 30.0
"""A busy machine's patience; what was measured on a quiet one stands in the documentation."""


@contextlib.contextmanager
def serving(kind: str, *models: str, port: int = 0) -> Iterator[Backend]:
    one = Backend(*models, kind=kind, port=port)
    try:
        yield one
    finally:
        one.close()


def chat(host: Host, model: str) -> tuple[int, Any]:
    """Status and document of one small request."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(f"{host.url}/v1/chat/completions", body)
    request.add_header("content-type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def entries(host: Host) -> dict[str, Any]:
    """``/v1/models`` by id."""
    return {one["id"]: one["swarm"] for one in host.get("/v1/models")["data"]}


@pytest.fixture
def pair(swarm: Swarm) -> tuple[Host, Host, list[int]]:
    """Two hosts that are not started; the first looks at as many ports as there are kinds, and one more."""
    a, b = swarm.host("a"), swarm.host("b")
    ports = free_ports(len(KINDS) + 2)
    a.looks_at = ports
    return a, b, ports


def test_every_kind_is_found_listed_and_used_from_another_node(pair: tuple[Host, Host, list[int]]) -> None:
    """One start of processes for all: what is there at the start, what comes, goes, reloads and fails."""
    a, b, ports = pair
    with contextlib.ExitStack() as running:
        servers = {
            kind: running.enter_context(serving(kind, f"of-{kind}", port=port))
            for kind, port in zip(KINDS, ports, strict=False)
        }
        running.enter_context(serving("impostor", port=ports[-2]))
        a.up(env={"OLLAMA_HOST": f"127.0.0.1:{a.ports['listen']}"})  # our own port: skipped
        b.join(a.token(), a)
        wanted = {f"of-{kind}" + (":latest" if kind == "ollama" else "") for kind in KINDS}
        told = {one["kind"]: one for one in a.json("backend", "list")["items"]}
        assert set(told) == set(KINDS)
        assert {one["state"] for one in told.values()} == {"ok"}
        assert [one["url"] for one in told.values() if str(ports[-2]) in one["url"]] == []
        eventually("another node lists all of them", lambda: wanted <= b.models(), within_s=WITHIN_S)
        for model in sorted(wanted):
            status, answer = chat(b, model)
            assert status == 200, answer
            assert answer["model"] == model

        late = running.enter_context(serving("sglang", "late", port=ports[-1]))
        _took("a server that comes", lambda: "late" in b.models())
        late.tell({"voice": {"models": ["later", "late"]}})
        _took("a model that comes", lambda: "later" in b.models())
        servers["lm-studio"].tell({"voice": {"resident": []}})
        _took("a model that is unloaded", lambda: not entries(b)["of-lm-studio"]["loaded"])
        late.close()
        status, _ = chat(b, "late")
        assert status in {404, 502, 503}
        _took("a server that went, by a request", lambda: "late" not in b.models())
        status, _ = chat(b, "late")
        assert status == 404
        assert a.json("status")["backends"][0]["state"] == "ok"


def _took(what: str, check: Any) -> None:
    began_s = time.monotonic()
    eventually(what, check, within_s=WITHIN_S)
    print(f"{what}: {time.monotonic() - began_s:.1f} s")  # noqa: T201 - a figure for people


def test_backends_are_named_tested_and_taken_away(swarm: Swarm) -> None:
    """What is named stays over a restart; nodes and strangers are refused."""
    a = swarm.host("a")
    (found_at, key_at, gone_at) = free_ports(3)
    a.looks_at = [found_at, key_at]
    with serving("vllm", "v", port=found_at), serving("locked", port=key_at), serving("omlx", "o") as named:
        a.up()
        states = {one["name"]: one["state"] for one in a.json("backend", "list")["items"]}
        assert states == {f"local-{found_at}": "ok", f"local-{key_at}": "needs key"}

        added = a.json("backend", "add", named.url, "--name", "mlx")
        assert (added["name"], added["kind"], added["state"], added["saved"]) == ("mlx", "omlx", "ok", True)
        eventually("it is used", lambda: "o" in a.models(), within_s=WITHIN_S)
        later = a.json("backend", "add", f"http://127.0.0.1:{gone_at}", "--name", "later")
        assert later["state"] == "unreachable"
        refused = a.ctl("backend", "add", a.url)
        assert refused.returncode != 0
        assert f"swarmctl join 127.0.0.1:{a.ports['join']} --token-file FILE" in refused.stderr
        stranger = a.ctl("backend", "add", f"http://127.0.0.1:{a.ports['admin']}")
        assert stranger.returncode != 0
        assert "no inference server" in stranger.stderr

        assert a.ctl("backend", "test", "mlx").returncode == 0
        assert a.ctl("backend", "test", f"http://127.0.0.1:{key_at}").returncode == 1
        words = a.ctl("status").stdout
        assert "needs key" in words
        assert "unreachable" in words

        assert a.json("backend", "remove", f"local-{found_at}")["ignored"] is True
        eventually("what is not wanted is gone", lambda: "v" not in a.models(), within_s=WITHIN_S)
        assert a.json("backend", "remove", "later")["ignored"] is False
        a.close()
        a.up()
        names = {one["name"] for one in a.json("backend", "list")["items"]}
        assert names == {"mlx", f"local-{key_at}"}


def test_five_backends_cost_an_idle_host_next_to_nothing(swarm: Swarm) -> None:
    """No path is asked twice in an interval. What it costs is printed; the bound is a busy machine's."""
    a = swarm.host("a")
    kinds = ("ollama", "vllm", "sglang", "llama-server", "lm-studio")
    a.looks_at = free_ports(len(kinds))
    with contextlib.ExitStack() as running:
        servers = [
            running.enter_context(serving(kind, f"of-{kind}", port=port))
            for kind, port in zip(kinds, a.looks_at, strict=True)
        ]
        a.up()
        eventually("all are found", lambda: len(a.json("backend", "list")["items"]) == len(kinds))
        sidecar = psutil.Process(a.pid("sidecar"))
        before, began_s = sum(sidecar.cpu_times()[:2]), time.monotonic()
        counts = [_asked(server) for server in servers]
        time.sleep(7)
        spent, took_s = sum(sidecar.cpu_times()[:2]) - before, time.monotonic() - began_s
        print(f"idle sidecar with five backends: {spent / took_s:.2%} of a core")  # noqa: T201
        assert spent / took_s < 0.05
        for server, asked in zip(servers, counts, strict=True):
            more = _asked(server) - asked
            assert more
            assert max(more.values()) <= took_s / 3.0 + 1, more


def _asked(server: Backend) -> Counter[str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server.url}/fake", timeout=10) as answer:
        seen = json.load(answer)["requests"]
    return Counter(one["target"] for one in seen if one["target"] != "/fake")
