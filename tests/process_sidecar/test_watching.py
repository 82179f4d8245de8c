"""A sidecar tells of its host what the operating system tells it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.backends.hardware import Hardware
from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from sidecar.process import watching
from sidecar.process.watching import HostWatch
from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import SystemClock
from swarmplane.ids import BackendName, EndpointId, ModelName, NodeId
from tests.fakes.inventories import inventory
from tests.fakes.kinds import running_kind


async def test_what_is_read_is_told_and_priced(tmp_path: Path) -> None:
    routes = CurrentRoutes(NodeId("me"))
    routes.set_own(inventory("m"))
    (endpoint,) = routes.view.own
    routes.balancer.history.decoded(ModelName("m"), endpoint, 41.0)
    await HostWatch(routes, BackendRegistry(), SystemClock(), Hardware(tmp_path)).look()
    condition = routes.own_condition
    assert condition is not None
    assert condition.pressure is not None
    (told,) = condition.endpoints
    assert (told.endpoint, told.warmth, told.tokens_per_s) == (EndpointId("me/engine/m"), "loaded", 41.0)
    (candidate,) = routes.resolve("m", SystemClock().now_s()).candidates
    assert candidate.facts.tokens_per_s == 41.0


async def test_what_a_backend_loads_and_tells_is_told_at_once(tmp_path: Path) -> None:
    """Not at the next look at the host: others prefer who has a model loaded."""
    routes, registry = CurrentRoutes(NodeId("me")), BackendRegistry()
    registry.subscribe(routes.set_own)
    watch = HostWatch(routes, registry, SystemClock(), Hardware(tmp_path))
    async with running_kind("llama-server", "m") as server, asyncio.TaskGroup() as group:
        task = group.create_task(registry.run())
        registry.add(BackendSpec.from_url(f"http://127.0.0.1:{server.port}", name="b"))
        async with asyncio.timeout(20):
            await registry.settle()
        await watch.look()
        told = routes.own_condition
        assert told is not None
        assert [(one.warmth, one.tokens_per_s) for one in told.endpoints] == [("loaded", 42.0)]
        registry.remove(BackendName("b"))
        assert routes.own_condition is not None
        assert routes.own_condition.endpoints == ()
        task.cancel()


async def test_a_platform_that_tells_nothing_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_spare: object) -> None:
        raise RuntimeError("no such sensor")

    monkeypatch.setattr(watching, "read_host", broken)
    routes = CurrentRoutes(NodeId("me"))
    routes.set_own(inventory("m"))
    await HostWatch(routes, BackendRegistry(), SystemClock(), Hardware(tmp_path)).look()
    assert routes.own_condition is not None
    assert routes.own_condition.pressure is None
