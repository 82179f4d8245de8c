"""Loaded models stay loaded: what is sent to Ollama's servers as a context, and what is not."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from sidecar.core.residents import Resident
from swarmplane.conditions import LOADED, Condition, EndpointCondition
from swarmplane.ids import BackendName, endpoint_id
from swarmplane.routes import RouteTable, Version
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import SWARM, Node, Served, TestSwarm, client, running_node
from tests.fakes.ollama import running_ollama
from tests.fakes.ollama_voice import OllamaVoice, model

BACKEND = BackendName("one")
NAME = "m1:latest"
HI = [{"role": "user", "content": "Hi"}]


@dataclass
class Host:
    """A node with an Ollama server."""

    node: Node
    backend: FakeBackend
    voice: OllamaVoice

    @property
    def sent(self) -> list[int | None]:
        """Contexts named to the server, in order."""
        return [body.get("options", {}).get("num_ctx") for _, body in self.voice.asked]


@contextlib.asynccontextmanager
async def host(
    name: str = "solo", *, resident: int = 0, swarm: TestSwarm | None = None, trained: int = 131_072
) -> AsyncIterator[Host]:
    async with running_ollama(model("m1", resident=resident, trained_context=trained)) as (backend, voice):
        served = Served(backend, model=NAME, canonical="m1", kind="ollama", context=trained)
        async with running_node(name, {"one": served}, swarm=swarm) as node:

            def look(_: BackendName) -> None:
                loaded = voice.models[NAME].resident
                node.backends.residents = {(BACKEND, NAME): Resident(loaded)} if loaded else {}

            node.backends.on_look = look
            look(BACKEND)
            yield Host(node, backend, voice)


def ollama(num_ctx: int | None = None, **more: Any) -> dict[str, Any]:
    options = {} if num_ctx is None else {"options": {"temperature": 0.5, "num_ctx": num_ctx}}
    return {"model": "m1", "messages": HI, "stream": False, **options, **more}


def tell(at: Node, of: Host, context: int) -> None:
    """What the owner's sidecar would say of itself."""
    key = endpoint_id(of.node.id, BACKEND, NAME)
    condition = Condition(endpoints=(EndpointCondition(key, LOADED, resident_context=context),))
    at.routes.set_condition(of.node.id, condition, at.plane.clock_s() + 90)


@pytest.mark.parametrize("hop", [False, True])
async def test_a_hundred_mixed_requests_load_nothing_again(swarm: TestSwarm, *, hop: bool) -> None:
    """None, less, and as much as is loaded; in three dialects, streaming and whole."""
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(host("b", resident=8192, swarm=swarm))
        entry = one.node
        if hop:
            entry = await stack.enter_async_context(running_node("a", swarm=swarm))
        swarm.connect()
        http = await stack.enter_async_context(client(entry))
        bodies = itertools.cycle(
            [
                ("/api/chat", ollama()),
                ("/api/chat", ollama(4096)),
                ("/api/chat", ollama(8192, stream=True)),
                ("/api/chat", ollama(8191.0)),  # type: ignore[arg-type]
                ("/api/chat", ollama(options=None)),
                ("/api/generate", {"model": "m1", "prompt": "Hi", "options": {}}),
                ("/v1/chat/completions", {"model": "m1", "messages": HI, "max_tokens": 50}),
                ("/v1/chat/completions", {"model": "m1", "messages": HI, "stream": True}),
                ("/v1/messages", {"model": "m1", "messages": HI, "max_tokens": 50}),
            ]
        )
        for path, body in itertools.islice(bodies, 100):
            answer = await http.ask(body, path)
            assert answer.status == 200, answer.body
            assert "warning" not in answer.headers
        assert one.sent == [8192] * 100
        assert (one.voice.loads, one.voice.reloads) == ([], [])


async def test_other_options_stay_as_they_are() -> None:
    async with host(resident=8192) as one, client(one.node) as http:
        await http.ask(
            b'{"options": {"num_ctx":  4096 , "seed": 1.50}, "model": "m1", "messages": []}', "/api/chat"
        )
        assert one.backend.asked[-1].body == (
            b'{"options": {"num_ctx":  8192 , "seed": 1.50}, "model": "m1:latest", "messages": []}'
        )


async def test_what_wants_more_is_served_where_more_is_loaded(swarm: TestSwarm) -> None:
    async with (
        host("a", resident=8192, swarm=swarm) as small,
        host("b", resident=32_768, swarm=swarm) as big,
        client(small.node) as http,
    ):
        swarm.connect(strategy="local_first")
        tell(small.node, big, 32_768)
        for _ in range(3):
            answer = await http.ask(ollama(16_384), "/api/chat")
            assert answer.status == 200
            assert (answer.headers["x-swarm-node"], answer.headers["x-swarm-model"]) == ("b", "m1")
            assert "warning" not in answer.headers
        assert big.sent == [32_768] * 3
        assert (await http.ask(ollama(8192), "/api/chat")).headers["x-swarm-node"] == "a"
        assert (await http.ask(ollama(), "/api/chat")).headers["x-swarm-node"] == "a"
        assert small.sent == [8192, 8192]
        assert not small.voice.loads + big.voice.loads


async def test_what_nobody_has_loaded_goes_through_with_a_warning(swarm: TestSwarm) -> None:
    async with (
        host("b", resident=8192, swarm=swarm) as one,
        running_node("a", swarm=swarm) as entry,
        client(entry) as http,
    ):
        swarm.connect()
        tell(entry, one, 8192)
        answer = await http.ask(ollama(65_536), "/api/chat")
        assert answer.status == 200
        assert answer.headers["warning"].startswith('299 - "num_ctx 65536')
        assert one.sent == [65_536]
        assert one.voice.reloads == [(NAME, 65_536)]
        # It is loaded so now: whoever names none, or less, gets that, and nothing is loaded back.
        for body in (ollama(), ollama(4096), ollama(8192)):
            assert "warning" not in (await http.ask(body, "/api/chat")).headers
        assert one.sent == [65_536] * 4
        assert len(one.voice.reloads) == 1


async def test_what_is_being_loaded_counts_before_the_server_says_so() -> None:
    """The server is looked at seconds after; until then what was sent is what is there."""
    async with host(resident=8192) as one, client(one.node) as http:
        one.node.backends.on_look = None
        await http.ask(ollama(16_384), "/api/chat")
        one.node.backends.looked.clear()
        assert (await http.ask(ollama(), "/api/chat")).status == 200
        assert one.sent == [16_384, 16_384]
        assert len(one.voice.reloads) == 1


async def test_an_unknown_context_is_left_alone() -> None:
    async with host() as one, client(one.node) as http:
        one.node.backends.on_look = None
        for number in (None, 4096, 16_384):
            answer = await http.ask(ollama(number), "/api/chat")
            assert "warning" not in answer.headers
        assert one.sent == [None, 4096, 16_384]


@pytest.mark.parametrize(
    ("mode", "sent", "warned"),
    [("warn", [None, 4096], True), ("passthrough", [None, 4096], False), ("strip", [8192] * 2, False)],
)
async def test_a_policy_of_the_model_or_of_the_swarm(
    swarm: TestSwarm, mode: str, sent: list[int | None], *, warned: bool
) -> None:
    for of_model in (True, False):
        async with host("b", resident=8192, swarm=swarm) as one, client(one.node) as http:
            swarm.connect()
            table = one.node.routes.view.table
            models = {n: replace(r, context=mode if of_model else "") for n, r in table.models.items()}
            other = {"strip": "warn"}.get(mode, "strip")
            changed = replace(
                table,
                version=Version(1, 100 + swarm.revision),
                models=models,
                default_context=other if of_model else mode,
            )
            swarm.revision += 200
            one.node.routes.install(changed)
            await http.ask(ollama(), "/api/chat")
            one.voice.load(NAME, 8192)
            one.node.backends.look(BACKEND)
            answer = await http.ask(ollama(4096), "/api/chat")
            assert one.sent == sent
            assert ("warning" in answer.headers) is warned


@pytest.mark.parametrize("options", [b'{"num_ctx": 1, "num_ctx": 2}', b'{"num_ctx": 1, "num\\u005fctx": 2}'])
async def test_two_contexts_are_refused(options: bytes) -> None:
    async with host(resident=8192) as one, client(one.node) as http:
        answer = await http.ask(b'{"model": "m1", "messages": [], "options": %b}' % options, "/api/chat")
        assert answer.status == 400
        assert "error" in answer.json
        assert one.sent == []


@pytest.mark.parametrize("options", [{"num_ctx": "big"}, {"num_ctx": -1}, {"num_ctx": None}, {}, None])
async def test_what_is_no_number_is_replaced(options: Any) -> None:
    async with host(resident=8192) as one, client(one.node) as http:
        answer = await http.ask(
            {"model": "m1", "messages": HI, "stream": False, "options": options}, "/api/chat"
        )
        assert answer.status == 200
        assert one.sent == [8192]


@pytest.mark.parametrize("options", ["big", 3, [], True])
async def test_options_that_are_none_are_refused(options: Any) -> None:
    async with host(resident=8192) as one, client(one.node) as http:
        answer = await http.ask({"model": "m1", "messages": HI, "options": options}, "/api/chat")
        assert (answer.status, answer.json) == (400, {"error": "options must be an object"})
        assert (await http.ask(ollama(), "/api/chat")).status == 200


async def test_a_server_outside_a_swarm_is_protected_too() -> None:
    async with host(resident=8192) as one, client(one.node) as http:
        assert isinstance(one.node.routes.view.table, RouteTable)
        assert one.node.routes.view.table.swarm != SWARM
        await http.ask({"model": "m1", "input": "x"}, "/api/embed")
        assert one.sent == [8192]
