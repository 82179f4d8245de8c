"""The registry against real listeners that come, go, lie and stall."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.backends import poller as polling
from sidecar.backends import probe as probing
from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec, Target
from swarmplane.errors import AlreadyExistsError
from swarmplane.ids import BackendName
from swarmplane.inventory import Backend, Inventory
from tests.fakes.model_server import ModelServer

NAME = BackendName("b")


@dataclass
class Watch:
    """A registry that runs, and what it told."""

    registry: BackendRegistry
    told: list[Inventory]
    changed: asyncio.Event

    def add(self, server: ModelServer, **facts: object) -> None:
        url = f"http://127.0.0.1:{server.port}"
        self.registry.add(BackendSpec.from_url(url, name=NAME, **facts))  # type: ignore[arg-type]

    @property
    def backend(self) -> Backend:
        return self.registry.inventory().backends[0]

    @property
    def models(self) -> list[str]:
        return [model.name for model in self.backend.models]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def _watching() -> AsyncIterator[Watch]:
    watch = Watch(BackendRegistry(memory_bytes=7, cpus=2), [], asyncio.Event())

    def note(inventory: Inventory) -> None:
        watch.told.append(inventory)
        watch.changed.set()

    watch.registry.subscribe(note)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.registry.run())
        try:
            yield watch
        finally:
            task.cancel()


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    async with _watching() as running:
        yield running


async def test_a_backend_is_found_and_its_models_listed(watch: Watch) -> None:
    async with ModelServer(["one", "two"]).listening() as server:
        watch.add(server, slots=3)
        assert (watch.backend.healthy, watch.backend.reason) == (False, "not checked yet")
        assert watch.registry.targets == {}
        await watch.until(lambda: watch.backend.healthy)

        inventory = watch.registry.inventory()
        assert watch.models == ["one", "two"]
        assert (watch.backend.kind, watch.backend.slots) == ("openai", 3)
        assert (inventory.memory_bytes, inventory.cpus) == (7, 2)
        assert watch.registry.targets == {NAME: Target(NAME, "openai", "127.0.0.1", server.port, slots=3)}
        assert watch.told[-1] == inventory


async def test_proxy_variables_are_ignored(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with ModelServer(["one"]).listening() as server:
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)


async def test_a_reported_failure_is_checked_at_once_and_models_stay_known(watch: Watch) -> None:
    async with ModelServer(["one"]).listening() as server:
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)
    watch.registry.report_failure(NAME)
    await watch.until(lambda: not watch.backend.healthy)

    assert watch.backend.reason == "nothing listens there"
    assert watch.models == ["one"]
    assert "127.0.0.1" not in watch.backend.reason

    async with server.listening(server.port):
        watch.registry.report_failure(NAME)
        await watch.until(lambda: watch.backend.healthy)


async def test_a_missing_model_makes_it_list_again(watch: Watch) -> None:
    async with ModelServer(["old"]).listening() as server:
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)
        server.models = ["new"]
        watch.registry.report_missing_model(NAME, "old")
        await watch.until(lambda: watch.models == ["new"])


async def test_a_key_file_is_sent_and_a_new_key_is_picked_up(watch: Watch, tmp_path: Path) -> None:
    key = tmp_path / "key"
    async with ModelServer(["one"], key="right").listening() as server:
        watch.add(server, key_file=key)
        await watch.until(lambda: watch.backend.reason == "its key file can't be read")
        key.write_text("wrong\n")
        watch.registry.report_failure(NAME)
        await watch.until(lambda: watch.backend.reason == "it refuses our key")
        key.write_text("right\n")
        watch.registry.report_failure(NAME)
        await watch.until(lambda: watch.backend.healthy)

        assert watch.registry.targets[NAME].headers == ((b"authorization", b"Bearer right"),)


async def test_a_node_is_refused_as_a_backend(watch: Watch) -> None:
    async with ModelServer(["one"], node=True).listening() as server:
        watch.add(server)
        await watch.until(lambda: "not a backend" in watch.backend.reason)

        assert (watch.backend.healthy, watch.models) == (False, [])
        assert watch.registry.targets == {}
        assert "/v1/models" not in server.asked


async def test_a_llama_server_is_asked_for_its_health_and_slots(watch: Watch) -> None:
    props = {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 2, "model_ftype": "Q8_0"}
    async with ModelServer(["one"], owner="llamacpp", health=200, props=props).listening() as server:
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)
        model = watch.backend.models[0]
        assert (watch.backend.kind, watch.backend.slots) == ("llama-server", 2)
        assert (model.context_length, model.quantization) == (4096, "Q8_0")

        server.health = 503
        watch.registry.report_failure(NAME)
        await watch.until(lambda: not watch.backend.healthy)
        assert watch.backend.reason == "it is still loading, or too busy"


async def test_a_server_that_listing_would_interrupt_is_listed_once(watch: Watch) -> None:
    async with ModelServer(["one"], owner="me").listening() as server:
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)
        server.asked.clear()
        watch.registry.report_failure(NAME)
        async with asyncio.timeout(20):
            while not server.asked:  # noqa: ASYNC110 - the fake sets no event
                await asyncio.sleep(0.01)

        assert server.asked == ["/health"]
        assert watch.models == ["one"]


@pytest.mark.parametrize(
    ("misbehaviour", "reason"),
    [
        pytest.param({"status": 500}, "it answers with HTTP status 500", id="error"),
        pytest.param({"status": 302}, "it answers with HTTP status 302", id="redirect"),
        pytest.param({"body": b"<html>"}, "it answered something that is not JSON", id="html"),
        pytest.param({"body": b" " * (9 << 20)}, "its answer is too long", id="endless"),
    ],
)
async def test_an_odd_answer_is_a_reason(watch: Watch, misbehaviour: dict[str, object], reason: str) -> None:
    async with ModelServer(["one"], **misbehaviour).listening() as server:  # type: ignore[arg-type]
        watch.add(server)
        await watch.until(lambda: watch.backend.reason == reason)


async def test_what_speaks_no_http_is_a_reason(watch: Watch) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-nothing\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        watch.registry.add(BackendSpec.from_url(f"http://127.0.0.1:{port}", name=NAME))
        await watch.until(lambda: watch.backend.reason == "it does not answer as an HTTP server does")


async def test_a_busy_server_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "ANSWER_S", 0.2)
    monkeypatch.setattr(polling, "HEALTHY_S", 0.01)
    monkeypatch.setattr(polling, "_LEAST_GAP_S", 0.01)
    async with _watching() as watch, ModelServer(["one"]).listening() as server:
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)
        server.asked.clear()
        server.delay_s = 30
        await watch.until(lambda: not watch.backend.healthy)

        assert watch.backend.reason == "it does not answer in time"
        assert len(server.asked) >= polling.BUSY_TOLERATED


async def test_what_streams_without_end_to_anything_is_listed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kills: its answer to an empty request is read for as long as answers may take, one after another."""
    monkeypatch.setattr(probing, "ANSWER_S", 600.0)
    asked: list[str] = []

    async def list_models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "one", "object": "model"}]})

    async def stream(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(OSError):
            while True:
                await response.write(b"data: {}\n\n")
                await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_get("/v1/models", list_models)
    app.router.add_post("/{any:.*}", stream)
    async with _watching() as watch, TestServer(app, shutdown_timeout=0.1) as server:
        watch.registry.add(BackendSpec.from_url(str(server.make_url("")), name=NAME))
        await watch.until(lambda: watch.backend.healthy)
    assert watch.models == ["one"]
    assert len(asked) == 3


async def test_backends_come_and_go_while_it_runs(watch: Watch) -> None:
    async with ModelServer(["one"]).listening() as server:
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)
        watch.add(server)  # the same again changes nothing
        with pytest.raises(AlreadyExistsError, match="two backends are called b"):
            watch.registry.add(BackendSpec.from_url("http://127.0.0.1:1", name=NAME))
        watch.registry.remove(NAME)

        assert watch.registry.inventory().backends == ()
        assert watch.registry.targets == {}
        watch.registry.remove(NAME)
        watch.add(server)
        await watch.until(lambda: watch.backend.healthy)


def test_an_engine_announces_itself_and_is_asked_to_look_again() -> None:
    registry = BackendRegistry()
    told: list[Any] = []
    looked: list[Any] = []
    registry.subscribe(told.append)
    target = Target(NAME, "xllamacpp", "127.0.0.1", 1)
    registry.announce(Backend(NAME, "xllamacpp"), None, lambda: looked.append(1))
    registry.announce(Backend(NAME, "xllamacpp"), target, lambda: looked.append(2))
    registry.report_failure(NAME)
    registry.report_failure(BackendName("nobody"))

    assert looked == [2]
    assert registry.targets == {NAME: target}
    assert len(told) == 1  # only the target changed the second time
    with pytest.raises(AlreadyExistsError):
        registry.add(BackendSpec.from_url("http://127.0.0.1:1", name=NAME))
    registry.remove(NAME)
    registry.add(BackendSpec.from_url("http://127.0.0.1:1", name=NAME))
    with pytest.raises(AlreadyExistsError):
        registry.announce(Backend(NAME, "xllamacpp"), target, lambda: None)
