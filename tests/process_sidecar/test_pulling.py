"""Pulls at an Ollama backend, as the control plane orders them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from sidecar.process.pulling import Puller
from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import SystemClock
from swarmplane.ids import BackendName, NodeId
from swarmplane.pulls import DONE, FAILED, RUNNING, Pull, PullReport
from swarmplane.routes import Version
from tests.fakes.authority import until
from tests.fakes.ollama import running_ollama
from tests.fakes.ollama_voice import OllamaModel

ME, BACKEND = NodeId("me"), BackendName("o")


def order(routes: CurrentRoutes, *pulls: Pull) -> None:
    table = routes.view.table
    routes.install(replace(table, version=Version(1, table.version.revision + 1), pulls=pulls))


@asynccontextmanager
async def host(port: int) -> AsyncIterator[tuple[CurrentRoutes, Puller]]:
    clock, registry = SystemClock(), BackendRegistry()
    registry.add(BackendSpec(BACKEND, "127.0.0.1", port))
    routes = CurrentRoutes(ME, clock=clock.now_s)
    registry.subscribe(routes.set_own)
    puller = Puller(routes, registry, clock)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(registry.run()), group.create_task(puller.run())]
        await until(lambda: bool(registry.targets))
        yield routes, puller
        for task in tasks:
            task.cancel()


async def test_a_pull_is_done_once_the_model_is_listed() -> None:
    """Kills: those of other nodes made, done before it is listed, made twice, reports kept for ever."""
    library = {name: OllamaModel(name) for name in ("new:1b", "not-ours:1b")}
    async with running_ollama("m1", library=library) as (backend, _), host(backend.port) as (routes, puller):
        ours = Pull("new:1b", ME, BACKEND)
        order(routes, ours, Pull("not-ours:1b", NodeId("other"), BACKEND))
        await until(lambda: [one.state for one in puller.reports()] == [DONE])
        assert routes.view.find("new:1b") is not None
        order(routes, replace(ours, eta_s=3.0))
        order(routes)
        await until(lambda: puller.reports() == ())
        asked = [one.target for one in backend.asked if one.target == "/api/pull"]
        assert len(asked) == 1
        assert routes.view.find("not-ours:1b") is None


async def test_a_pull_that_fails_says_why() -> None:
    """Kills: failures taken for success, a backend that is gone waited for, an order twice in a row."""
    async with running_ollama("m1") as (backend, _), host(backend.port) as (routes, puller):
        order(routes, Pull("none:1b", ME, BACKEND))
        await until(lambda: [one.state for one in puller.reports()] == [FAILED])
        assert "file does not exist" in puller.reports()[0].reason
        order(routes, Pull("none:1b", ME, BackendName("other")))
        assert puller.reports()[0].state == FAILED
        order(routes)
        await until(lambda: not puller.reports())
        order(routes, Pull("none:1b", ME, BackendName("other")))
        await until(lambda: puller.reports() != () and puller.reports()[0].state != RUNNING)
        assert puller.reports() == (PullReport("none:1b", FAILED, reason="its backend is gone"),)
