"""Names, merged models, fallbacks, the waiting room and pulls: three hosts, two control planes on one etcd.

`a` and `c` are at the first control plane, `b` at the second; `a` has no model.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.servers import FakeServer
from tests.clients.tongues import TONGUES, Line, Question, Raw, Turn
from tests.e2e.hosts import SWARMCTL, Host, Swarm, eventually
from tests.e2e.instances import Instance
from tests.store.etcd_server import WITHOUT, etcd_binary, running

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(180),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
]
CHAT, SLOW, ALIKE, UNLIKE = "qwen-chat", "slow-chat", "alike:7b", "unlike:7b"
PULLED, LATE, ORDERED = "tiny:1b", "late:1b", "ordered:1b"
PULL_S = 4.0


@dataclass(frozen=True)
class World:
    """What the tests of this module share; they leave it whole."""

    instances: tuple[Instance, Instance]
    a: Host
    b: Host
    c: Host
    vllm: FakeServer
    ollamas: tuple[FakeServer, FakeServer]

    def apply(self, policies: str) -> None:
        """Set policies, as the admin of the first instance."""
        path = self.instances[0].data_dir / "policies.toml"
        path.write_text(policies)
        self.instances[0].json("policy", "apply", "-f", str(path))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("names")
    digest = f"digest={7:064x}"
    library = [part for name in (PULLED, LATE, ORDERED) for part in ("--can-pull", name)]
    vllm = FakeServer("vllm", "--model", CHAT, "--model", SLOW)
    ollamas = (
        FakeServer(
            "ollama", "--model", f"{ALIKE},{digest}", "--model", UNLIKE, *library, f"--pull-s={PULL_S}"
        ),
        FakeServer(
            "ollama",
            *("--model", f"same-weights:7b,{digest}", "--model", f"{UNLIKE},quantization=Q8_0"),
            *library,
            f"--pull-s={PULL_S}",
        ),
    )
    swarm = Swarm(root)
    with running(1) as etcd:
        first, second = instances = (
            Instance(root, "i1", etcd.endpoints),
            Instance(root, "i2", etcd.endpoints),
        )
        try:
            first.start()
            second.start("--swarm-secret-file", str(first.data_dir / "controlplane" / "swarm-secret"))
            a, b, c = (swarm.host(name) for name in "abc")
            join(a, first)
            join(b, second, "--backend", vllm.url, "--backend", ollamas[0].url)
            join(c, first, "--backend", ollamas[1].url)
            eventually("all is known", lambda: len(a.models()) >= 5, within_s=60)
            yield World(instances, a, b, c, vllm, ollamas)
        finally:
            swarm.close()
            for instance in instances:
                instance.close()
            for server in (vllm, *ollamas):
                server.close()


def join(host: Host, instance: Instance, *flags: str) -> None:
    path = host.data_dir.parent / f"{host.name}.token"
    path.write_text(instance.token())
    host.start(["join", instance.join_address, "--token-file", str(path)], *flags, founder=False)


def ask(
    host: Host,
    model: str,
    dialect: str = "openai",
    *,
    stream: bool = False,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Raw:
    """One chat."""
    tongue, line = TONGUES[dialect], Line(host.ports["listen"])
    body = tongue.body(model, Question([Turn("user", "good day")]), stream=stream) | more
    try:
        return line.ask(tongue.path, json.dumps(body).encode(), headers)
    finally:
        line.close()


def test_the_hosts_are_at_both_control_planes(world: World) -> None:
    """What the other tests stand on."""
    at = [host.get("/control", admin=True)["instance"] for host in (world.a, world.b, world.c)]
    assert at == [world.instances[0].id, world.instances[1].id, world.instances[0].id]


@pytest.mark.parametrize("model", [CHAT, ALIKE])
def test_the_asked_name_is_in_every_answer_and_every_chunk(world: World, model: str) -> None:
    """An alias by its name, one by a pattern, and another case; each dialect, whole and as a stream."""
    first, second = world.instances
    first.json("alias", "set", "gpt-4o", model)
    second.json("alias", "set", "claude-*", model)
    asked = ["gpt-4o", "claude-sonnet-1", model.upper()]
    for name in asked:
        eventually(
            f"a knows {name}", lambda name=name: ask(world.a, name).headers.get("x-swarm-model") == model
        )
    for name in asked:
        for dialect in TONGUES:
            for stream in (False, True):
                raw = ask(world.a, name, dialect, stream=stream)
                assert raw.status == 200, raw.body
                assert TONGUES[dialect].heard(raw, stream=stream).text
                assert set(named(raw.body)) == {name}, (dialect, stream)
                assert raw.headers["x-swarm-model"] == model
                assert "x-swarm-fallback" not in raw.headers
    if model == CHAT:
        assert {one.get("model", CHAT) for one in bodies(world.vllm)} == {CHAT}
    for name in ("gpt-4o", "claude-*"):
        first.json("alias", "remove", name)
    eventually("it is forgotten", lambda: ask(world.a, "gpt-4o").status == 404)


def bodies(server: FakeServer) -> list[Any]:
    """What was asked of it."""
    return [json.loads(one["body"]) for one in server.requests()]


def named(body: bytes) -> Iterator[str]:
    """Every model named in an answer, in whatever line or event."""
    for line in body.splitlines():
        text = line.removeprefix(b"data: ")
        if text.startswith(b"{"):
            document = json.loads(text)
            yield from (one["model"] for one in (document, document.get("message") or {}) if "model" in one)


def test_models_are_one_with_equal_digests_and_two_with_other_quantisations(world: World) -> None:
    listed = {entry["id"]: entry["swarm"] for entry in world.a.get("/v1/models")["data"]}
    one = listed[ALIKE if ALIKE in listed else "same-weights:7b"]
    assert sorted(one["nodes"]) == ["b", "c"]
    assert not {ALIKE, "same-weights:7b"} <= set(listed), "equal weights are one model"
    two = {name: entry["nodes"] for name, entry in listed.items() if name.startswith(UNLIKE)}
    assert sorted(two.values()) == [["b"], ["c"]]
    assert UNLIKE in two
    other = next(name for name in two if name != UNLIKE)
    assert other.startswith(f"{UNLIKE}@Q")
    for name, nodes in two.items():
        assert {ask(world.a, name).headers["x-swarm-node"] for _ in range(4)} == set(nodes)
    # Each owner calls it as its own backend does.
    for name in (ALIKE, "same-weights:7b"):
        for node in "bc":
            raw = ask(world.a, name, headers={"x-swarm-node": node})
            assert (raw.status, raw.headers["x-swarm-node"], set(named(raw.body))) == (200, node, {name})
    assert [bodies(server)[-1]["model"] for server in world.ollamas] == [ALIKE, "same-weights:7b"]


def test_another_model_answers_by_leave_of_the_request_or_a_policy(world: World) -> None:
    missing = "not-here:7b"
    before = ask(world.a, missing)
    assert before.status == 404
    for dialect in TONGUES:
        raw = ask(world.a, missing, dialect, stream=True, fallback_models=["neither", CHAT])
        assert raw.status == 200, raw.body
        assert TONGUES[dialect].heard(raw, stream=True).text
        assert (raw.headers["x-swarm-model"], raw.headers["x-swarm-fallback"]) == (CHAT, missing)
        assert set(named(raw.body)) == {missing}
    assert "fallback_models" not in world.vllm.last()
    try:
        world.apply(f'[[swarm.fallbacks]]\nmatch = "not-*"\nmodels = ["{CHAT}"]\n')
        eventually("the policy is in force", lambda: ask(world.a, missing).status == 200)
        raw = ask(world.a, missing, "anthropic")
        assert (raw.headers["x-swarm-model"], raw.headers["x-swarm-fallback"]) == (CHAT, missing)
        assert ask(world.a, missing, headers={"x-swarm-no-fallback": "1"}).status == 404
        assert ask(world.a, missing, fallback=False).status == 404
    finally:
        world.apply("[swarm]\nfallbacks = []\n")
    eventually("it is over", lambda: ask(world.a, missing).status == 404)


def test_who_asks_for_a_model_that_loads_waits_for_it(world: World) -> None:
    """Until it is there, until the time it brought is over, or until it leaves; a 503 says what is up."""
    world.vllm.order(loading=[SLOW])
    eventually("a knows that it loads", lambda: state(world, SLOW) == "loading", within_s=40)
    begun_s = time.monotonic()
    raw = ask(world.a, SLOW, headers={"x-swarm-timeout-s": "1"})
    assert time.monotonic() - begun_s >= 1.0
    assert (raw.status, json.loads(raw.body)["error"]["code"]) == (503, "model_loading")
    assert json.loads(raw.body)["swarm"]["state"] == "loading"
    assert 0 < int(raw.headers["retry-after"]) <= 60
    left = Line(world.a.ports["listen"])
    leaver = threading.Thread(target=lambda: leave(left), daemon=True)
    leaver.start()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, world.a, SLOW, one, stream=True) for one in ("openai", "anthropic")]
        eventually("they wait", lambda: len(in_flight(world.a)) == 2)
        assert {one["waits_for"] for one in in_flight(world.a)} == {"loading"}
        world.vllm.order(loading=[])
        answers = [one.result(60) for one in waiting]
    leaver.join(10)
    assert [raw.status for raw in answers] == [200, 200]
    assert not in_flight(world.a)


def leave(line: Line) -> None:
    """Ask, and go away while it waits."""
    connection = line._connection
    body = TONGUES["openai"].body(SLOW, Question([Turn("user", "never mind")]), stream=False)
    connection.request("POST", TONGUES["openai"].path, json.dumps(body), {"content-type": "application/json"})
    time.sleep(0.3)
    line.close()


def state(world: World, model: str) -> str:
    return str(world.instances[0].json("model", "show", model)["state"])


def in_flight(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host.get("/requests", admin=True)["items"]
    return found


class Watch:
    """What ``swarmctl event watch 'model.*'`` prints."""

    def __init__(self, data_dir: Path) -> None:
        self._process = subprocess.Popen(
            [*SWARMCTL, "event", "watch", "model.*", "--json", "--data-dir", str(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.put(json.loads(line))

    def until(self, kind: str) -> list[dict[str, Any]]:
        """All of them up to the first of this kind."""
        told = []
        while True:
            told.append(self.lines.get(timeout=60))
            if told[-1]["kind"] == kind:
                return told

    def close(self) -> None:
        self._process.kill()
        self._process.wait(5)
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


def pulls(world: World, model: str) -> list[str]:
    """Who was told to pull it."""
    return [
        server.url
        for server in world.ollamas
        for one in server.requests()
        if one["target"] == "/api/pull" and json.loads(one["body"])["model"] == model
    ]


def test_a_missing_model_is_pulled_once_by_the_whole_swarm(world: World) -> None:
    """Clients at hosts of both control planes ask at the same moment; all are answered by the one copy."""
    watches = [Watch(one.data_dir) for one in world.instances]
    try:
        for watch in watches:
            watch.until("bookmark")
        # A policy comes whole: who knows the rule knows what may be pulled.
        rule = f'[[swarm.fallbacks]]\nmatch = "known-*"\nmodels = ["{CHAT}"]\n'
        world.apply(f'[swarm]\nauto_pull = ["{PULLED}", "{LATE}"]\n{rule}')
        for host in (world.a, world.b):
            eventually("it is in force", lambda host=host: ask(host, "known-by").status == 200)
        with ThreadPoolExecutor(6) as pool:
            asked = [
                pool.submit(ask, host, PULLED, dialect, stream=True)
                for host in (world.a, world.b)
                for dialect in TONGUES
            ]
            answers = [one.result(90) for one in asked]
        assert [raw.status for raw in answers] == [200] * 6, [raw.body[:300] for raw in answers]
        assert {raw.headers["x-swarm-model"] for raw in answers} == {PULLED}
        assert len(pulls(world, PULLED)) == 1
        for watch in watches:
            told = watch.until("model.pulled")
            progress = [one["message"] for one in told if one["kind"] == "model.pulling"]
            assert any(message.endswith("%") for message in progress), told
        raw = ask(world.b, LATE, headers={"x-swarm-timeout-s": "2"})
        assert raw.status == 503, raw.body
        assert json.loads(raw.body)["error"]["code"] == "model_loading"
        assert json.loads(raw.body)["swarm"]["state"] == "loading"
        for watch in watches:
            watch.until("model.pulled")
        eventually("the pull went on", lambda: ask(world.a, LATE).status == 200)
        assert len(pulls(world, LATE)) == 1
    finally:
        for watch in watches:
            watch.close()
        world.apply("[swarm]\nauto_pull = []\n")


def test_a_model_is_pulled_on_order(world: World) -> None:
    """By the control plane that the node is not connected to; no policy allows it."""
    done = world.instances[1].ctl("model", "pull", ORDERED, "--node", "c", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["schema"], document["state"]) == ("swarmctl.operation/v1", "done")
    assert document["message"] == f"c has pulled {ORDERED}"
    assert f"c pulls {ORDERED}, " in done.stderr
    assert ask(world.a, ORDERED).headers["x-swarm-node"] == "c"
    refused = world.instances[0].ctl("model", "pull", "not-in-the-library:1b")
    assert refused.returncode == 1
    assert "file does not exist" in refused.stdout + refused.stderr
    begun = world.instances[0].ctl("model", "pull", LATE, "--node", "a")
    assert (begun.returncode, "no Ollama server" in begun.stderr) == (1, True), begun.stderr
