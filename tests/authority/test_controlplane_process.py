"""``swarm-controlplane`` as a process of its own: started, killed, started again, stopped."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from swarmplane import enrollment
from swarmplane.channels import control_channel, swarm_errors
from swarmplane.credentials.files import Credential, load_credential
from swarmplane.credentials.join_token import JoinToken, parse_join_token
from swarmplane.errors import ForbiddenError, UnauthenticatedError
from swarmplane.v1 import node_pb2, node_pb2_grpc, token_pb2, token_pb2_grpc

pytestmark = pytest.mark.process
READY_S = 40.0
CALL_S = 20.0


class Process:
    """One run on a data directory."""

    def __init__(self, data_dir: Path, *more: str, lifeline: bool = False) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [
                    *(sys.executable, "-m", "controlplane.main", "--data-dir", str(data_dir)),
                    *("--set", "control.listen=127.0.0.1:0", "--set", "control.join_listen=127.0.0.1:0"),
                    *("--console-listen", "127.0.0.1:0"),
                    *(["--lifeline-stdin"] if lifeline else []),
                    *more,
                ],
                stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
            )

    def ready(self) -> dict[str, Any]:
        """The ready file of this process."""
        ends_s = time.monotonic() + READY_S
        while time.monotonic() < ends_s:
            with contextlib.suppress(OSError, ValueError):
                document = json.loads((self.data_dir / "run" / "controlplane.json").read_text())
                if document["pid"] == self.popen.pid:
                    return dict(document)
            if self.popen.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"not ready: {self.popen.poll()}\n{self.log.read_text()[-3000:]}")

    def kill_as_soon_as_there_is(self, file: str) -> None:
        """Kill -9 in the middle of what it does then."""
        ends_s = time.monotonic() + READY_S
        while not (self.data_dir / file).exists() and time.monotonic() < ends_s:
            time.sleep(0.001)
        self.popen.kill()

    def ended(self) -> int:
        """Exit status."""
        return self.popen.wait(READY_S)

    def close(self) -> None:
        """Whatever happened, it is gone."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(READY_S)
        if self.popen.stdin is not None:
            self.popen.stdin.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    running: list[Process] = []

    def started(name: str = "founder", *more: str, lifeline: bool = False) -> Process:
        running.append(Process(tmp_path / name, *more, lifeline=lifeline))
        return running[-1]

    (tmp_path / "founder").mkdir()
    try:
        yield started
    finally:
        for process in running:
            process.close()


def get(address: str, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{address}{path}", timeout=CALL_S) as answer:
        return answer.status, answer.read().decode()


def answer_of(address: str, path: str, method: str) -> int:
    """Status of a request, whatever it is."""
    connection = http.client.HTTPConnection(address, timeout=CALL_S)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_metrics_stand_on_a_listener_of_their_own(start: Callable[..., Process]) -> None:
    process = start("founder", "--control-metrics-listen", "127.0.0.1:0")
    facts = process.ready()
    own = facts["metrics"]
    assert own != facts["console"]
    status, text = get(own, "/metrics")
    assert status == 200
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names == {
        f"swarmplane_{name}"
        for name in (
            *("build_info", "nodes", "leader", "streams", "pushes_total", "nacks_total", "push_seconds"),
            *("store_seconds", "watch_revision", "watch_lag_revisions"),
        )
    }
    assert "swarmplane_leader 1" in text
    ends_s = time.monotonic() + READY_S
    while "swarmplane_watch_lag_revisions 0" not in text and time.monotonic() < ends_s:
        time.sleep(0.05)  # what it wrote when it began comes back in a while
        text = get(own, "/metrics")[1]
    assert "swarmplane_watch_lag_revisions 0" in text
    assert 'swarmplane_store_seconds_count{op="transact"}' in text
    assert (get(own, "/healthz")[0], get(own, "/readyz")[0]) == (200, 200)
    assert (answer_of(own, "/other", "GET"), answer_of(own, "/metrics", "POST")) == (404, 405)


def posted(address: str, path: str, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a POST."""
    connection = http.client.HTTPConnection(address, timeout=CALL_S)
    try:
        connection.request("POST", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_reload_says_what_it_took_and_what_needs_a_restart(start: Callable[..., Process]) -> None:
    process = start()
    console = process.ready()["console"]
    nothing = {"schema": "controlplane.reload/v1", "applied": [], "restart_needed": []}
    assert posted(console, "/reload") == (200, nothing)
    config = process.data_dir / "config.toml"
    config.write_text(
        "[control]\ndebounce_s = 0.3\nheartbeat_s = 1.0\nlease_ttl_s = 12.0\n"
        '[log]\nlevel = "debug"\n[client]\nmax_json_bytes = 5\n'
    )
    status, document = posted(console, "/reload")
    assert (status, set(document["applied"]), document["restart_needed"]) == (
        200,
        {"control.debounce_s", "control.heartbeat_s", "log.level"},
        ["control.lease_ttl_s"],
    )
    assert posted(console, "/reload")[1] == {**nothing, "restart_needed": ["control.lease_ttl_s"]}
    config.write_text("[control]\ndebounce_s = -1\n")
    status, document = posted(console, "/reload")
    assert (status, document["error"]["code"]) == (400, "invalid_request")
    for headers in ({"Origin": "http://127.0.0.1:3000"}, {"X-Forwarded-For": "10.0.0.1"}):
        assert posted(console, "/reload", **headers)[0] == 403


async def tokens_of(facts: dict[str, Any], credential: Credential, *, make: bool = False) -> Any:
    async with await control_channel(facts["control"], credential) as channel:
        stub: Any = token_pb2_grpc.TokenServiceStub(channel)
        if make:
            answer = await stub.Create(token_pb2.CreateTokenRequest(uses=2), timeout=CALL_S)
            return parse_join_token(answer.join_token)
        return (await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)).tokens


async def test_it_founds_serves_and_stops_cleanly(start: Callable[..., Process]) -> None:
    process = start()
    facts = process.ready()
    assert set(facts) == {
        *("pid", "instance_id", "swarm", "swarm_name"),
        *("control", "join", "console", "metrics"),
    }
    assert get(facts["console"], "/healthz")[0] == 200
    assert json.loads(get(facts["console"], "/readyz")[1])["status"] == "ready"
    status, metrics = get(facts["console"], "/metrics")
    assert status == 200
    assert "swarmplane_build_info{" in metrics
    assert 'swarmplane_store_seconds_count{op="transact"}' in metrics
    admin = load_credential(process.data_dir / "contexts" / "default")
    context = json.loads((process.data_dir / "contexts" / "default" / "context.json").read_text())
    assert context["addresses"] == [facts["control"]]
    token = await tokens_of(facts, admin, make=True)
    enrolled = await enrollment.enroll(facts["join"], token, name="mac")
    assert enrolled.name == "mac"
    process.popen.send_signal(signal.SIGTERM)
    assert process.ended() == 0
    assert not (process.data_dir / "run" / "controlplane.json").exists()
    text = process.log.read_text()
    assert "Traceback" not in text
    assert token.secret not in text


async def test_killed_and_started_again_it_has_what_it_had(start: Callable[..., Process]) -> None:
    first = start()
    facts = first.ready()
    admin = load_credential(first.data_dir / "contexts" / "default")
    token: JoinToken = await tokens_of(facts, admin, make=True)
    await enrollment.enroll(facts["join"], token, name="mac")
    first.popen.kill()
    first.ended()
    again = start().ready()
    assert again["swarm"] == facts["swarm"]
    assert again["instance_id"] != facts["instance_id"]
    kept = await tokens_of(again, admin)
    assert [(one.id, one.used) for one in kept] == [(token.id, 1)]
    assert (await enrollment.enroll(again["join"], token, name="mac")).name == "mac-2"


async def test_killed_at_any_moment_of_its_founding_it_founds_in_the_end(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    marks = ("controlplane/swarm-secret", "contexts/default/context.json", "contexts/default/cert.pem")
    for number, mark in enumerate(marks):
        (tmp_path / f"d{number}").mkdir()
        process = start(f"d{number}")
        process.kill_as_soon_as_there_is(mark)
        process.ended()
        facts = start(f"d{number}").ready()
        admin = load_credential(process.data_dir / "contexts" / "default")
        admin.check()
        assert list(await tokens_of(facts, admin)) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows closes pipes differently")
def test_it_stops_when_its_parent_is_gone(start: Callable[..., Process]) -> None:
    process = start(lifeline=True)
    process.ready()
    assert process.popen.stdin is not None
    process.popen.stdin.close()
    assert process.ended() == 0


def test_a_busy_port_is_an_error_that_names_the_flag(start: Callable[..., Process]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        for flag in ("--control-listen", "--join-listen", "--console-listen"):
            process = start("founder", flag, f"127.0.0.1:{port}")
            assert process.ended() == 1
            text = process.log.read_text()
            assert f"127.0.0.1:{port} is in use" in text
            assert f"pid {os.getpid()}" in text or sys.platform != "linux"
            assert flag in text
            assert "Traceback" not in text


def test_a_second_process_on_the_same_store_is_refused(start: Callable[..., Process]) -> None:
    start().ready()
    second = start()
    assert second.ended() == 1
    assert "Traceback" not in second.log.read_text()


def test_a_lost_secret_is_said(start: Callable[..., Process]) -> None:
    first = start()
    first.ready()
    first.popen.send_signal(signal.SIGTERM)
    first.ended()
    (first.data_dir / "controlplane" / "swarm-secret").unlink()
    second = start()
    assert second.ended() == 1
    assert "--swarm-secret-file" in second.log.read_text()


@pytest.mark.parametrize("setting", ["control.listne=x", "control.listen=nonsense"])
def test_a_wrong_setting_is_said(start: Callable[..., Process], setting: str) -> None:
    process = start("founder", "--set", setting)
    assert process.ended() in {1, 2}
    assert "Traceback" not in process.log.read_text()


async def test_a_node_acts_on_itself_only_and_is_nobody_once_removed(start: Callable[..., Process]) -> None:
    process = start()
    facts = process.ready()
    admin = load_credential(process.data_dir / "contexts" / "default")
    token = await tokens_of(facts, admin, make=True)
    mine = await enrollment.enroll(facts["join"], token, name="mine")
    other = await enrollment.enroll(facts["join"], token, name="other")
    async with await control_channel(facts["control"], mine.credential) as channel:
        stub: Any = node_pb2_grpc.NodeServiceStub(channel)
        listed = await stub.List(node_pb2.ListNodesRequest(), timeout=CALL_S)
        assert {node.name for node in listed.nodes} == {"mine", "other"}
        for act, request in (
            (stub.Cordon, node_pb2.CordonNodeRequest),
            (stub.Uncordon, node_pb2.UncordonNodeRequest),
            (stub.Remove, node_pb2.RemoveNodeRequest),
        ):
            with pytest.raises(ForbiddenError, match="swarmctl token create --role operator"), swarm_errors():
                await act(request(node="other"), timeout=CALL_S)
        cordoned = await stub.Cordon(node_pb2.CordonNodeRequest(node="mine"), timeout=CALL_S)
        assert (cordoned.name, cordoned.cordoned) == ("mine", True)
        removed = await stub.Remove(node_pb2.RemoveNodeRequest(node="mine"), timeout=CALL_S)
        assert removed.node_id == mine.subject_id
        with pytest.raises(UnauthenticatedError, match="removed"), swarm_errors():
            await stub.List(node_pb2.ListNodesRequest(), timeout=CALL_S)
    async with await control_channel(facts["control"], other.credential) as channel:
        stub = node_pb2_grpc.NodeServiceStub(channel)
        listed = await stub.List(node_pb2.ListNodesRequest(), timeout=CALL_S)
        assert [node.name for node in listed.nodes] == ["other"]


async def test_health_and_reflection_know_the_whole_contract(start: Callable[..., Process]) -> None:
    process = start()
    facts = process.ready()
    admin = load_credential(process.data_dir / "contexts" / "default")
    async with await control_channel(facts["control"], admin) as channel:
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = reflection.ServerReflectionInfo(timeout=CALL_S)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        listed = {service.name for service in answer.list_services_response.service}
        call.cancel()
        names = ("Certificate", "Sidecar", "Node", "Model", "Route", "Token", "Event", "Operation")
        assert listed >= {f"swarmplane.v1.{name}Service" for name in names}
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in listed:
            checked = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S)
            assert checked.status == health_pb2.HealthCheckResponse.SERVING
