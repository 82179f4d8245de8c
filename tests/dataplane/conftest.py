"""The data plane runs on the loop that a host has here: uvloop, or asyncio's own where it is not installed.

``LOOP=asyncio`` runs it on asyncio's own (make test-asyncio).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.backend import FakeBackend, running_backend
from tests.fakes.dataplane import Client, Node, Served, TestSwarm, client, running_node

LOOPS: dict[str, Any] = {"asyncio": asyncio.new_event_loop}
if os.environ.get("LOOP") != "asyncio":
    with contextlib.suppress(ImportError):
        import uvloop

        LOOPS = {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, Any]:
    return LOOPS


@pytest.fixture
async def backend() -> AsyncIterator[FakeBackend]:
    async with running_backend() as one:
        yield one


@pytest.fixture
async def node(backend: FakeBackend) -> AsyncIterator[Node]:
    """A host that joined no swarm, with one backend and the model ``m1``."""
    async with running_node(served={"one": Served(backend)}) as one:
        yield one


@pytest.fixture
async def http(node: Node) -> AsyncIterator[Client]:
    async with client(node) as one:
        yield one


@pytest.fixture
def swarm(tmp_path: Path) -> TestSwarm:
    return TestSwarm(tmp_path)


@pytest.fixture
async def pair(swarm: TestSwarm, backend: FakeBackend) -> AsyncIterator[tuple[Node, Node]]:
    """A has nothing, B serves ``m1``."""
    async with (
        running_node("a", swarm=swarm) as a,
        running_node("b", {"one": Served(backend)}, swarm=swarm) as b,
    ):
        swarm.connect()
        yield a, b
