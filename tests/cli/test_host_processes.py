"""``swarmctl up`` and the commands around it, as processes, on loopback, with proxy variables set."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.hosts import SWARMCTL, Host, Swarm, eventually, swarmctl

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

DEAD = "http://192.0.2.1:9"
PROXIES = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "grpc_proxy"), DEAD
)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


@pytest.fixture(scope="module")
def founder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    host = swarm.host("a")
    host.up(env=PROXIES)
    try:
        yield host
    finally:
        swarm.close()


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    one = Swarm(tmp_path)
    try:
        yield one
    finally:
        one.close()


def _says(host: Host, words: str) -> None:
    eventually(f"{host.name} says {words}", lambda: words in host.log.read_text())


def test_runtime_json_is_as_agreed(founder: Host) -> None:
    runtime = founder.runtime
    assert runtime["schema"] == "swarmplane.runtime/v1"
    assert set(runtime) == {"schema", "pid", "node_id", "node_name", "swarm", "pids", "urls"}
    assert runtime["node_name"] == "a"
    assert set(runtime["pids"]) == {"sidecar", "controlplane"}
    urls = runtime["urls"]
    assert urls["client"] == f"http://127.0.0.1:{founder.ports['listen']}"
    assert urls["admin"] == f"http://127.0.0.1:{founder.ports['admin']}"
    assert urls["console"] == f"http://127.0.0.1:{founder.ports['console']}"
    assert urls["control"] == f"127.0.0.1:{founder.ports['control']}"
    assert urls["join"] == f"127.0.0.1:{founder.ports['join']}"
    if sys.platform != "win32":
        assert stat.S_IMODE((founder.data_dir / "runtime.json").stat().st_mode) == 0o600


def test_what_it_says_when_ready(founder: Host) -> None:
    _says(founder, f"ready: http://127.0.0.1:{founder.ports['listen']}")
    _says(founder, f"to add machines: swarmctl up --lan --data-dir {founder.data_dir}\n")
    _says(founder, "no model yet")
    assert "swp1." not in founder.log.read_text(), "a log is no terminal"


def test_a_second_up_names_the_first(founder: Host) -> None:
    for command in (["up"], ["up", "-d"], ["join", "127.0.0.1", "--token", "x"]):
        done = founder.ctl(*command)
        assert done.returncode == 1
        assert f"pid {founder.runtime['pid']}" in done.stderr


def test_a_busy_port_names_holder_and_flag_and_founds_nothing(founder: Host, tmp_path: Path) -> None:
    for kind, flag in (("listen", "--listen"), ("join", "--join-listen")):
        address = f"127.0.0.1:{founder.ports[kind]}"
        done = swarmctl("up", flag, address, *_others(flag), data_dir=tmp_path / "b")
        assert done.returncode == 1
        assert address in done.stderr
        assert f"another address with {flag}" in done.stderr
        assert not (tmp_path / "b" / "controlplane").exists()
        assert not (tmp_path / "b" / "config.toml").exists()


def _others(flag: str) -> list[str]:
    flags = [
        "--listen",
        "--admin-listen",
        "--control-listen",
        "--join-listen",
        "--console-listen",
        "--peer-listen",
    ]
    return [word for one in flags if one != flag for word in (one, "127.0.0.1:0")]


def test_tokens(founder: Host) -> None:
    document = founder.json("token", "create", "--uses", "2", "--ttl", "1h")
    assert set(document) == {"schema", "id", "token", "role", "uses", "expires_at", "join_command"}
    assert document["schema"] == "swarmctl.token/v1"
    assert (document["role"], document["uses"]) == ("node", 2)
    assert document["join_command"] == (
        f"swarmctl join 127.0.0.1:{founder.ports['join']} --token {document['token']}"
    )
    shown = founder.ctl("token", "create")
    assert shown.stdout.startswith("swp1.")
    assert len(shown.stdout.splitlines()) == 1, "data on stdout, words on stderr"
    assert "swarmctl join" in shown.stderr
    assert founder.ctl("token", "revoke", document["id"]).returncode == 0
    states = {item["id"]: item["state"] for item in founder.json("token", "list")["items"]}
    assert states[document["id"]] == "revoked"
    assert founder.json("token", "create", "--ttl", "0", "--uses", "0")["expires_at"] is None


def test_joining_by_a_members_url_with_the_token_in_the_environment(founder: Host, tmp_path: Path) -> None:
    env = {**PROXIES, "SWARMPLANE_JOIN_TOKEN": founder.token()}
    data_dir = tmp_path / "b"
    done = swarmctl("join", founder.url, "--enroll-only", "--name", "a", "--json", data_dir=data_dir, env=env)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["name"] == "a-2"
    assert "another node is called a" in done.stderr
    assert 'name = "a"' in (data_dir / "config.toml").read_text(), "flags are kept"
    again = swarmctl("join", founder.url, "--enroll-only", "--json", data_dir=data_dir, env=env)
    assert json.loads(again.stdout)["id"] == document["id"], "one host, one node"
    refused = swarmctl("token", "create", data_dir=data_dir, env=env)
    assert refused.returncode == 1, "a node's certificate reads"
    assert "swarmctl token create --role" in refused.stderr
    if sys.platform != "win32":
        for file in (data_dir / "node").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_people_log_in(founder: Host, tmp_path: Path) -> None:
    address = f"127.0.0.1:{founder.ports['join']}"
    token = founder.token("--role", "operator")
    done = swarmctl(
        "login", address, "--token", token, "--name", "ada", "--context", "work", "--json", data_dir=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["subject"] == "user:ada"
    contexts = json.loads(swarmctl("context", "list", "--json", data_dir=tmp_path).stdout)["items"]
    assert [(one["name"], one["current"]) for one in contexts] == [("work", True)]
    assert swarmctl("token", "list", data_dir=tmp_path).returncode == 0
    refused = swarmctl("token", "create", "--role", "admin", data_dir=tmp_path)
    assert refused.returncode == 1
    node_token = founder.token()
    wrong = swarmctl("login", address, "--token", node_token, data_dir=tmp_path / "x")
    assert wrong.returncode == 2
    assert "swarmctl join" in wrong.stderr
    assert not (tmp_path / "x" / "contexts").exists()
    person = founder.token("--role", "viewer")
    for wasted in (
        swarmctl("join", address, "--token", person, "--enroll-only", data_dir=tmp_path / "y"),
        wrong,
    ):
        assert wasted.returncode == 2
        assert "not spent" in wasted.stderr
    used = {one["id"]: one["used"] for one in founder.json("token", "list")["items"]}
    assert used[node_token.split(".")[1]] == used[person.split(".")[1]] == 0
    assert [one["name"] for one in founder.json("node", "list")["items"]].count("y") == 0
    assert swarmctl("logout", data_dir=tmp_path).returncode == 0
    assert not (tmp_path / "contexts" / "work").exists()


def test_detached_restarted_stopped_and_resumed(swarm: Swarm) -> None:
    host = swarm.host("d")
    done = host.ctl("up", "-d", *host.flags(founder=True)[2:], env=PROXIES)
    try:
        assert done.returncode == 0, done.stderr
        assert f"ready: {host.url}" in done.stderr
        before = host.runtime
        assert "sidecar.ready" in host.ctl("logs").stdout
        assert host.ctl("restart").returncode == 0
        after = host.runtime
        assert after["pid"] == before["pid"]
        assert set(after["pids"].values()).isdisjoint(before["pids"].values())
        assert after["urls"] == before["urls"]
    finally:
        down = host.ctl("down")
    assert down.returncode == 0, down.stderr
    assert not (host.data_dir / "runtime.json").exists()
    assert host.ctl("down").returncode == 0
    assert host.ctl("status").returncode == 1
    try:
        done = host.ctl("up", "-d")  # flags of the first run are kept
        assert done.returncode == 0, done.stderr
        assert host.runtime["urls"] == before["urls"]
        assert host.runtime["node_id"] == before["node_id"]
        assert host.runtime["swarm"] == before["swarm"]
    finally:
        host.ctl("down")


@POSIX
def test_a_dead_child_is_replaced_and_the_other_left_alone(founder: Host) -> None:
    for killed, other in (("sidecar", "controlplane"), ("controlplane", "sidecar")):
        victim, spared = founder.pid(killed), founder.pid(other)
        os.kill(victim, signal.SIGKILL)
        eventually(f"{killed} runs again", lambda v=victim, k=killed: founder.pid(k) != v)  # type: ignore[misc]
        assert founder.pid(other) == spared
        _says(founder, f"swarm-{killed} ended (killed by signal 9); it is started again in 1 s")
    assert founder.get("/healthz", admin=True)
    assert founder.ctl("token", "list").returncode == 0


@POSIX
def test_children_end_with_a_parent_that_is_killed(swarm: Swarm) -> None:
    host = swarm.host("o")
    host.up()
    family = host.family()
    assert len(family) >= 2
    host.signal(signal.SIGKILL)
    host.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    assert host.ctl("status").returncode == 1


class SlowBackend:
    """An inference server whose answers never end."""

    def __init__(self) -> None:
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps({"object": "list", "data": [{"id": "slow", "object": "model"}]}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                if self.path != "/v1/chat/completions":
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                ended = threading.Event()
                while not ended.wait(0.1):
                    try:
                        self.wfile.write(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
                    except OSError:
                        ended.set()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def streaming(swarm: Swarm) -> Iterator[tuple[Host, Any]]:
    """A host with one answer under way that never ends by itself."""
    backend = SlowBackend()
    host = swarm.host("s")
    host.up("--backend", backend.url)
    eventually("the model is listed", lambda: "slow" in host.models())
    connection = http.client.HTTPConnection("127.0.0.1", host.ports["listen"], timeout=60)
    body = json.dumps({"model": "slow", "stream": True, "messages": []})
    connection.request(
        "POST", "/v1/chat/completions", body=body, headers={"content-type": "application/json"}
    )
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline()
    try:
        yield host, connection
    finally:
        connection.close()
        backend.close()


@POSIX
def test_ctrl_c_counts_what_is_left_and_the_second_one_stops(streaming: tuple[Host, Any]) -> None:
    host, _ = streaming
    host.signal(signal.SIGINT)
    _says(host, "1 request left (Ctrl-C again stops now)")
    assert host.runtime["draining"] is True
    status = host.json("status")
    assert (status["running"], status["ready"], status["draining"]) == (True, False, True)
    assert "draining" in host.ctl("status").stdout
    host.signal(signal.SIGINT)
    assert host.wait(15) == 0


@POSIX
def test_ctrl_c_finishes_what_ends_in_time(streaming: tuple[Host, Any]) -> None:
    host, connection = streaming
    host.signal(signal.SIGINT)
    _says(host, "1 request left")
    connection.close()
    assert host.wait(15) == 0


def test_a_host_that_can_not_start_says_why_detached_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SWARMCTL, "up", "-d", "--data-dir", str(tmp_path), *_others(""), "--advertise", "127.0.0.1",
         "--admin-listen", "192.0.2.77:1"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "192.0.2.77:1" in done.stderr
    assert "--admin-listen" in done.stderr
