"""``python -m sidecar.main`` as a real process, with a fake backend and no control plane."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout

from tests.fakes.backend import Behaviour, running_backend
from tests.fakes.sidecars import WAIT_S, backend_setting, sidecar

pytestmark = pytest.mark.process

POSIX_ONLY = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and descriptors")


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(WAIT_S)) as session:
        yield session


async def test_a_lone_host_serves_its_backend_and_stops_cleanly(tmp_path: Path, http: ClientSession) -> None:
    async with (
        running_backend(models=("tiny",)) as fake,
        sidecar(tmp_path, *backend_setting(fake.port)) as run,
    ):
        await run.until_ready()
        assert run.ready["pid"] == run.process.pid
        assert (run.ready["peer"], run.ready["advertised"], run.ready["node_id"]) == ("", [], "")
        assert run.ready_file.stat().st_mode & 0o077 == 0
        async with http.get(f"{run.client}/v1/models") as answer:
            (model,) = (await answer.json())["data"]
        assert (model["id"], model["swarm"]["nodes"]) == ("tiny", [run.ready["node_name"]])
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
        async with http.post(f"{run.client}/v1/chat/completions", json=asked) as answer:
            assert answer.status == 200
            assert answer.headers["x-swarm-backend"] == "fake"
            assert (await answer.json())["choices"]
        async with http.post(f"{run.client}/v1/chat/completions", json={"model": "none"}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, "model_not_found")
        async with http.get(f"{run.admin}/metrics") as answer:
            assert 'swarmplane_rejected_total{code="model_not_found"} 1' in await answer.text()
        run.process.terminate()
        status, words = await run.ended()
        assert (status, "Traceback" in words) == (0, False)
        assert not run.ready_file.exists()


async def test_limits_are_reloaded_while_it_serves(tmp_path: Path, http: ClientSession) -> None:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 500}]}
    async with (
        running_backend(models=("tiny",)) as fake,
        sidecar(tmp_path, *backend_setting(fake.port)) as run,
    ):
        await run.until_ready()
        config = tmp_path / "config.toml"
        config.write_text("drain_s = 7\n[client]\nmax_json_bytes = 100\n")
        async with http.post(f"{run.admin}/reload") as answer:
            assert await answer.json() == {
                "schema": "sidecar.reload/v1",
                "applied": ["client.max_json_bytes"],
                "restart_needed": ["drain_s"],
            }
        async with http.post(f"{run.client}/v1/chat/completions", json=asked) as answer:
            assert answer.status == 413
        config.write_text("[client]\nmax_json_bytes = 'many'\n")
        async with http.post(f"{run.admin}/reload") as answer:
            assert answer.status == 400
            assert "max_json_bytes" in (await answer.json())["error"]["message"]
        config.write_text("")
        async with http.post(f"{run.admin}/reload") as answer:
            assert (await answer.json())["applied"] == ["client.max_json_bytes"]
        async with http.post(f"{run.client}/v1/chat/completions", json=asked) as answer:
            assert answer.status == 200


async def test_metrics_and_the_access_log_tell_of_every_request(tmp_path: Path, http: ClientSession) -> None:
    log = tmp_path / "access.log"
    asked = {"model": "tiny", "messages": []}
    async with (
        running_backend(models=("tiny",)) as fake,
        sidecar(tmp_path, *backend_setting(fake.port), "--set", f"log.access={log}") as run,
    ):
        await run.until_ready()
        for _ in range(3):
            async with http.post(f"{run.client}/v1/chat/completions", json=asked) as answer:
                assert answer.status == 200
        async with http.get(f"{run.admin}/metrics") as answer:
            text = await answer.text()
        async with http.get(f"{run.admin}/traces?limit=2") as answer:
            traces = (await answer.json())["items"]
        labels = f'dialect="openai",model="tiny",node="{run.ready["node_name"]}",outcome="completed"'
        assert f"swarmplane_requests_total{{{labels}}} 3" in text
        for name in ("request_duration_seconds_bucket", "attempts_total", "telemetry_dropped_total"):
            assert f"swarmplane_{name}{{" in text
        run.process.terminate()
        assert (await run.ended())[0] == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["model"], line["status"], line["flags"]) for line in lines] == [("tiny", 200, "-")] * 3
    assert [{name: one[name] for name in lines[0]} for one in traces] == lines[:0:-1]


@POSIX_ONLY
async def test_a_stream_is_finished_while_it_stops_and_a_second_signal_cuts_it(
    tmp_path: Path, http: ClientSession
) -> None:
    asked = {"model": "tiny", "stream": True, "messages": []}
    how = Behaviour(chunks=6, interval_s=0.2)
    async with running_backend(models=("tiny",), default=how) as slow:
        async with sidecar(tmp_path / "a", *backend_setting(slow.port)) as run:
            await run.until_ready()
            async with http.post(f"{run.client}/v1/chat/completions", json=asked) as answer:
                await answer.content.readline()
                run.process.send_signal(signal.SIGTERM)
                assert b"[DONE]" in await answer.read()
            assert (await run.ended())[0] == 0
        slow.default = Behaviour(chunks=5_000, interval_s=0.2)
        async with sidecar(tmp_path / "b", *backend_setting(slow.port)) as run:
            await run.until_ready()
            async with http.post(f"{run.client}/v1/chat/completions", json=asked) as answer:
                await answer.content.readline()
                run.process.send_signal(signal.SIGINT)
                await asyncio.sleep(0.3)
                run.process.send_signal(signal.SIGINT)
                assert (await run.ended())[0] == 0


async def test_metrics_stand_on_a_listener_of_their_own(tmp_path: Path, http: ClientSession) -> None:
    async with sidecar(tmp_path, "--metrics-listen", "127.0.0.1:0") as run:
        await run.until_ready()
        place = f"http://{run.ready['metrics']}"
        async with http.get(f"{place}/metrics") as answer:
            assert "swarmplane_build_info{" in await answer.text()
        async with http.get(f"{place}/config") as answer:
            assert answer.status == 404
        run.process.terminate()
        assert (await run.ended())[0] == 0


async def test_it_stops_when_its_parent_is_gone(tmp_path: Path) -> None:
    async with sidecar(tmp_path, "--lifeline-stdin", stdin=asyncio.subprocess.PIPE) as run:
        await run.until_ready()
        assert run.process.stdin is not None
        run.process.stdin.close()
        assert (await run.ended())[0] == 0


@POSIX_ONLY
async def test_it_accepts_on_the_listener_its_parent_bound(tmp_path: Path, http: ClientSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        bound.set_inheritable(True)
        words = ("--client-fd", str(bound.fileno()))
        async with sidecar(tmp_path, *words, pass_fds=[bound.fileno()]) as run:
            await run.until_ready()
            assert run.client.endswith(f":{bound.getsockname()[1]}")
            async with http.get(f"{run.client}/healthz") as answer:
                assert answer.status == 200
            run.process.terminate()
            assert (await run.ended())[0] == 0
        with socket.create_connection(bound.getsockname(), timeout=5):
            pass  # the parent's own end still listens: nobody is refused meanwhile


async def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        busy = f"127.0.0.1:{holder.getsockname()[1]}"
        async with sidecar(tmp_path, "--set", f"admin.listen={busy}") as run:
            status, words = await run.ended()
    assert status == 1
    assert words.count("\n") == 1
    assert words.startswith(f"swarm-sidecar: {busy} is in use")
    assert "--admin-listen" in words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "client.lissten=:0"), "client.listen"),
        (("--set", "drain_s=soon"), "drain_s"),
        (("--log-level", "loud"), "log.level"),
        (("--bogus",), "--bogus"),
    ],
)
async def test_usage_errors_are_status_two(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    async with sidecar(tmp_path, *words) as run:
        status, said = await run.ended()
    assert (status, says in said, "Traceback" in said) == (2, True, False)


@POSIX_ONLY
async def test_a_hangup_takes_new_backends_into_use(tmp_path: Path, http: ClientSession) -> None:
    async with running_backend(models=("later",)) as fake, sidecar(tmp_path) as run:
        await run.until_ready()
        (tmp_path / "config.toml").write_text(
            f'drain_s = 1.0\n[[backends]]\nurl = "http://127.0.0.1:{fake.port}"\nname = "fake"\n'
        )
        run.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(WAIT_S):
            names: list[str] = []
            while names != ["later"]:
                await asyncio.sleep(0.05)
                async with http.get(f"{run.client}/v1/models") as answer:
                    names = [model["id"] for model in (await answer.json())["data"]]
        (tmp_path / "config.toml").write_text("drain_s = 'soon'")
        run.process.send_signal(signal.SIGHUP)
        async with http.get(f"{run.client}/v1/models") as answer:
            assert len((await answer.json())["data"]) == 1
        run.process.terminate()
        status, words = await run.ended()
    assert status == 0
    assert "settings.reloaded" in words
    assert "drain_s" in words
