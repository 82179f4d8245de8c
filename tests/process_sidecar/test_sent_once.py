"""Three sidecar processes, two of them with one slot each: what is queued moves, what runs is never doubled.

Counted on the fakes: every question carries its own number. Mutants seen to be killed: a withdrawn attempt
that is not cut off, a queued one that stays beside an idle node.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint
from tests.fakes.backend import Behaviour, FakeBackend, Seen, running_backend
from tests.fakes.dataplane import eventually
from tests.fakes.sidecars import WAIT_S, Enrolment, Running, free_port, sidecar

pytestmark = pytest.mark.process

OWNERS = ("bee", "cat")


class Trio:
    """Node ``ant`` takes requests; ``bee`` and ``cat`` serve the model, one request at a time each."""

    def __init__(self, fakes: Mapping[str, FakeBackend], http: ClientSession) -> None:
        self.fakes = fakes
        self.http = http
        self.client = ""

    async def start(self, root: Path, stack: AsyncExitStack, *words: str) -> None:
        enrolment, ports = Enrolment(), {name: free_port() for name in OWNERS}
        listed = [
            Endpoint(EndpointId(f"{n}/fake/m1"), NodeId(n), BackendName("fake"), "m1", slots=1)
            for n in OWNERS
        ]
        for name in ("ant", *OWNERS):
            enrolment.enrol(root / name, name)
        enrolment.keep_table(
            root / "ant", listed, {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        )
        for name in OWNERS:
            backend = [{"url": f"http://127.0.0.1:{self.fakes[name].port}", "name": "fake", "slots": 1}]
            listen = ("--peer-listen", f"127.0.0.1:{ports[name]}", "--set", f"backends={json.dumps(backend)}")
            await (await stack.enter_async_context(sidecar(root / name, *listen))).until_ready()
        ant: Running = await stack.enter_async_context(
            sidecar(root / "ant", "--peer-listen", "127.0.0.1:0", *words)
        )
        await ant.until_ready()
        self.client = ant.client

    async def ask(self, number: int, fake: str = "") -> str:
        """Who answered question ``number``."""
        body = {"model": "m1", "messages": [{"role": "user", "content": f"question {number}."}]}
        url = f"{self.client}/v1/chat/completions"
        async with self.http.post(url, json=body, headers={"x-fake": fake} if fake else {}) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
            return answer.headers["x-swarm-node"]

    def sent(self, number: int) -> list[Seen]:
        """Every time that question ``number`` came to a backend, the first one first."""
        marker = f"question {number}.".encode()
        found = [seen for fake in self.fakes.values() for seen in fake.asked if marker in seen.body]
        return sorted(found, key=lambda seen: seen.at_s)


@pytest.fixture
async def trio() -> AsyncIterator[Trio]:
    async with AsyncExitStack() as stack:
        fakes = {name: await stack.enter_async_context(running_backend()) for name in OWNERS}
        http = await stack.enter_async_context(ClientSession(timeout=ClientTimeout(WAIT_S)))
        yield Trio(fakes, http)


async def test_queued_requests_move_to_the_node_that_becomes_idle(trio: Trio, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        await trio.start(tmp_path, stack)
        asked: dict[int, asyncio.Task[str]] = {}

        def ask(number: int, fake: str) -> None:
            asked[number] = group.create_task(trio.ask(number, fake))

        ask(1, "delay_s=12")
        await eventually(lambda: trio.sent(1), "one runs for long")
        ask(2, "delay_s=1.5")
        await eventually(lambda: trio.sent(2), "the other one for a while")
        for number in range(3, 8):
            ask(number, "delay_s=0.2")
        names: list[Any] = [await asked[number] for number in range(2, 8)]
        assert not asked[1].done(), "the long one runs still"
        assert len(set(names)) == 1, "all were answered beside it"
        assert await asked[1] not in names
    assert [len(trio.sent(number)) for number in range(1, 8)] == [1] * 7
    assert [fake.most_running for fake in trio.fakes.values()] == [1, 1]


async def test_a_first_byte_that_is_late_never_makes_two_of_one(trio: Trio, tmp_path: Path) -> None:
    """The clock fires after 0.3 s, answers take 0.8 s: whoever is sent again was cut off before."""
    async with AsyncExitStack() as stack:
        await trio.start(tmp_path, stack, "--set", "upstream.first_byte_floor_s=0.3")
        for number in range(100, 130):
            await trio.ask(number)
        for fake in trio.fakes.values():
            fake.default = Behaviour(delay_s=0.8)
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(trio.ask(number))
    again = 0
    for number in range(10):
        *cut, last = trio.sent(number)
        again += len(cut)
        assert last.disconnected_s is None, "one was answered"
        for before, after in zip(cut, [*cut, last][1:], strict=True):
            assert before.disconnected_s is not None, "the one before was cut off"
            assert before.disconnected_s < after.at_s + 0.5, "and no later than the next began"
    assert again <= 10, "once each at most"
