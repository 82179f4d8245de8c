"""The registry against a server that answers as Ollama does, on any port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.backends import ollama_probe
from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from sidecar.core.residents import Resident
from swarmplane.ids import BackendName
from swarmplane.inventory import Backend, Inventory, ModelState
from tests.fakes.finders import until
from tests.fakes.model_server import ModelServer
from tests.fakes.ollama import running_ollama
from tests.fakes.ollama_voice import model

NAME = BackendName("b")


@asynccontextmanager
async def watched(port: int) -> AsyncIterator[tuple[BackendRegistry, list[Inventory]]]:
    registry, told = BackendRegistry(), list[Inventory]()
    registry.subscribe(told.append)
    registry.add(BackendSpec.from_url(f"http://127.0.0.1:{port}", name=NAME))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(registry.run())
        try:
            yield registry, told
        finally:
            task.cancel()


def backend(registry: BackendRegistry) -> Backend:
    return registry.inventory().backends[0]


async def test_it_is_found_by_what_it_answers() -> None:
    async with (
        running_ollama(model("m", resident=8192), model("e", capabilities=("embedding",))) as (server, _),
        watched(server.port) as (registry, _),
    ):
        await until(lambda: backend(registry).healthy)
        assert backend(registry).kind == "ollama"
        loaded, cold = backend(registry).models
        assert (loaded.name, loaded.state, loaded.context_length) == ("m:latest", ModelState.LOADED, 131_072)
        assert loaded.capabilities == ("chat", "completion", "tools")
        assert (loaded.family, loaded.parameter_size, loaded.format) == ("llama", "3.2B", "gguf")
        assert loaded.digest.startswith("sha256:")
        assert loaded.modified_s > 0
        assert (cold.state, cold.capabilities) == (ModelState.COLD, ("embedding",))
        resident = registry.resident(NAME, "m:latest")
        assert resident is not None
        assert resident.context == 8192
        assert registry.resident(NAME, "e:latest") is None
        assert registry.resident(BackendName("none"), "m:latest") is None


async def test_each_model_is_shown_once_and_expiry_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_probe, "MOST_SHOWN", 2)
    async with (
        running_ollama(*[model(f"m{n}") for n in range(5)]) as (server, voice),
        watched(server.port) as (registry, told),
    ):

        def looks(path: str) -> int:
            return sum(seen.target == path for seen in server.seen)

        async def look_again() -> None:
            """Two looks begin after this: one may be under way."""
            done = looks("/api/tags") + 2
            while looks("/api/tags") < done:
                registry.report_failure(NAME)
                await asyncio.sleep(0.01)

        await until(lambda: [len(one.capabilities) for one in backend(registry).models] == [3] * 5)
        voice.load("m0", 4096)
        await look_again()
        await until(lambda: backend(registry).models[0].state is ModelState.LOADED)
        count = len(told)
        voice.load("m0", 4096, keep_s=900.0)
        await look_again()
        assert len(told) == count
        assert looks("/api/show") == 5
        assert registry.resident(NAME, "m0:latest") is not None


async def test_what_only_looks_like_it_is_not() -> None:
    body = b'{"version": "1", "data": [{"id": "one"}]}'
    async with ModelServer(["one"], body=body).listening() as server, watched(server.port) as (registry, _):
        await until(lambda: backend(registry).healthy)
        assert backend(registry).kind == "openai"
        asked = [path for path in server.asked if path.startswith("/api/")]
        assert asked == ["/api/version", "/api/tags", "/api/v0/models"]


async def test_one_that_goes_away_has_nothing_loaded() -> None:
    async with (
        running_ollama(model("m", resident=8192)) as (server, _),
        watched(server.port) as (registry, _),
    ):
        await until(
            lambda: registry.resident(NAME, "m:latest") == Resident(8192, 0, 0) or backend(registry).healthy
        )
        await server.stop()
        registry.report_failure(NAME)
        await until(lambda: not backend(registry).healthy)
        assert registry.resident(NAME, "m:latest") is None
        assert [one.name for one in backend(registry).models] == ["m:latest"]
