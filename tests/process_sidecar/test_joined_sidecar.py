"""Joined sidecars as real processes whose control plane is dead: they live on the tables they kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout

from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint
from tests.fakes.backend import FakeBackend, running_backend
from tests.fakes.sidecars import WAIT_S, Enrolment, Running, backend_setting, free_port, sidecar

pytestmark = pytest.mark.process

ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
OF_BEE = Endpoint(EndpointId("bee/fake/tiny"), NodeId("bee"), BackendName("fake"), "tiny")


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(WAIT_S)) as session:
        yield session


class Pair:
    """Node ``ant`` without a model, node ``bee`` with one; ``ant`` kept a table that says so."""

    def __init__(self, root: Path, fake: FakeBackend, stack: AsyncExitStack) -> None:
        self.enrolment = Enrolment()
        self.peer_port = free_port()
        self.ant_dir, self.bee_dir = root / "ant", root / "bee"
        self._fake = fake
        self._stack = stack

    def enrol(self, **bee: float) -> None:
        self.enrolment.enrol(self.ant_dir, "ant")
        self.enrolment.enrol(self.bee_dir, "bee", **bee)
        self.enrolment.keep_table(self.ant_dir, [OF_BEE], {"bee": f"127.0.0.1:{self.peer_port}"})

    async def start_ant(self) -> Running:
        ant = await self._stack.enter_async_context(sidecar(self.ant_dir, "--peer-listen", "127.0.0.1:0"))
        await ant.until_ready()
        return ant

    async def start_bee(self) -> Running:
        words = ("--peer-listen", f"127.0.0.1:{self.peer_port}", *backend_setting(self._fake.port))
        bee = await self._stack.enter_async_context(sidecar(self.bee_dir, *words))
        await bee.until_ready()
        return bee


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(running_backend(models=("tiny",)))
        yield Pair(tmp_path, fake, stack)


async def test_a_request_crosses_to_the_node_of_the_table_on_disk(pair: Pair, http: ClientSession) -> None:
    pair.enrol()
    ant, bee = await pair.start_ant(), await pair.start_bee()
    assert bee.ready["peer"] == f"127.0.0.1:{pair.peer_port}"
    assert bee.ready["advertised"] == [f"127.0.0.1:{pair.peer_port}"]
    assert (ant.ready["node_id"], ant.ready["node_name"]) == ("ant", "ant-name")
    async with http.get(f"{ant.client}/v1/models") as answer:
        (model,) = (await answer.json())["data"]
    assert model["swarm"]["nodes"] == ["bee-name"]
    for stream in (False, True):
        asked = {**ASKED, "stream": stream}
        async with http.post(f"{ant.client}/v1/chat/completions", json=asked) as answer:
            body = await answer.text()
        assert answer.status == 200, body
        assert answer.headers["x-swarm-node"] == "bee-name"
        assert answer.headers["x-swarm-stale"] == "1"
        assert ("[DONE]" in body) == stream
    async with http.get(f"{ant.admin}/control") as answer:
        control = await answer.json()
    assert (control["joined"], control["connected"]) == (True, False)
    assert control["reason"]
    async with http.get(f"{ant.admin}/readyz") as answer:
        assert answer.status == 200
    for one in (ant, bee):
        one.process.terminate()
        status, words = await one.ended()
        assert (status, "Traceback" in words) == (0, False), words


async def test_a_killed_owner_is_503_and_serves_again_after_its_restart(
    pair: Pair, http: ClientSession
) -> None:
    pair.enrol()
    ant, bee = await pair.start_ant(), await pair.start_bee()
    async with http.post(f"{ant.client}/v1/chat/completions", json=ASKED) as answer:
        assert answer.status == 200
    bee.process.kill()
    await bee.ended()
    bee.ready_file.unlink()
    for _ in range(3):
        async with asyncio.timeout(5), http.post(f"{ant.client}/v1/chat/completions", json=ASKED) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "no_replica")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
    await pair.start_bee()
    async with http.post(f"{ant.client}/v1/chat/completions", json=ASKED) as answer:
        assert answer.status == 200


async def test_an_expired_peer_is_excused_while_no_instance_answers(pair: Pair, http: ClientSession) -> None:
    pair.enrol(lifetime_s=1.0)
    ant, _ = await pair.start_ant(), await pair.start_bee()
    await asyncio.sleep(1.5)
    async with http.post(f"{ant.client}/v1/chat/completions", json=ASKED) as answer:
        assert answer.status == 200


async def test_a_removed_node_is_refused_by_its_peers(pair: Pair, http: ClientSession) -> None:
    pair.enrol()
    pair.enrolment.keep_table(pair.bee_dir, [], {}, denied=["ant"])
    ant, _ = await pair.start_ant(), await pair.start_bee()
    async with http.post(f"{ant.client}/v1/chat/completions", json=ASKED) as answer:
        assert answer.status in {502, 503}


async def test_a_damaged_table_is_as_none(pair: Pair, http: ClientSession) -> None:
    pair.enrol()
    table = pair.ant_dir / "table" / "routes.bin"
    table.write_bytes(table.read_bytes()[:-3])
    ant = await pair.start_ant()
    async with http.post(f"{ant.client}/v1/chat/completions", json=ASKED) as answer:
        assert answer.status == 404
    async with http.get(f"{ant.admin}/readyz") as answer:
        assert answer.status == 503


async def test_a_broken_identity_is_one_clear_line(pair: Pair) -> None:
    pair.enrol()
    (pair.ant_dir / "node" / "identity.json").write_text("{")
    async with sidecar(pair.ant_dir) as ant:
        status, words = await ant.ended()
    assert (status, words.count("\n")) == (1, 1)
    assert "identity.json" in words
