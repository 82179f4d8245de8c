"""The error table of the client listener, row by row, in every dialect, over real sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from swarmplane.client_keys import ClientKey, key_digest
from swarmplane.errors import Code
from swarmplane.inventory import ModelState
from swarmplane.routes import ModelRoute
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, QUICK, Answer, Client, Node, Served, TestSwarm, client, running_node

DIALECTS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}
LIMITS = replace(
    QUICK,
    max_json_bytes=20_000,
    max_head_bytes=4_000,
    body_timeout_s=0.3,
    first_byte_timeout_s=0.5,
    auth="lan",
)
AFAR = {"x_forwarded_for": "192.0.2.1"}
KEY = "sk-test"


@dataclass(frozen=True, slots=True)
class Asking:
    """One request of a dialect, to be made wrong."""

    http: Client
    node: Node
    path: str

    def body(self, **changes: Any) -> dict[str, Any]:
        limit = {"max_tokens": 16} if self.path == DIALECTS["anthropic"] else {}
        return {**CHAT, **limit, "stream": False, **changes}

    async def ask(self, body: Any = None, **headers: str) -> Answer:
        return await self.http.ask(self.body() if body is None else body, self.path, **headers)

    async def raw(self, head: str, body: bytes = b"") -> Answer:
        self.http.send(f"{head}\r\nhost: localhost\r\n".encode() + body)
        return await self.http.answer()


Act = Callable[[Asking], Awaitable[Answer]]


def key(**changes: Any) -> ClientKey:
    return replace(ClientKey("k", key_digest(KEY.encode())), **changes)


def install(node: Node, **changes: Any) -> None:
    node.routes.install(replace(node.routes.view.table, **changes))


async def bad_json(it: Asking) -> Answer:
    return await it.ask(b'{"model": ')


async def wrong_type(it: Asking) -> Answer:
    return await it.ask(it.body(messages=7) if it.path != DIALECTS["openai"] else it.body(model=7))


async def too_long(it: Asking) -> Answer:
    it.node.own({"one": replace(it.node.served["one"], context=64)})
    return await it.ask(it.body(messages=[{"role": "user", "content": "many words " * 400}]))


async def no_key(it: Asking) -> Answer:
    return await it.ask(**AFAR)


async def foreign_page(it: Asking) -> Answer:
    return await it.ask(origin="https://evil.example")


async def not_its_model(it: Asking) -> Answer:
    install(it.node, keys=(key(models=("other",)),))
    return await it.ask(x_api_key=KEY, **AFAR)


async def unknown(it: Asking) -> Answer:
    return await it.ask(it.body(model="nope"))


async def other_method(it: Asking) -> Answer:
    return await it.raw(f"PUT {it.path} HTTP/1.1", b"content-length: 2\r\n\r\n{}")


async def large_body(it: Asking) -> Answer:
    return await it.raw(f"POST {it.path} HTTP/1.1", b"content-length: 20001\r\n\r\n")


async def large_head(it: Asking) -> Answer:
    return await it.raw(f"POST {it.path} HTTP/1.1", b"x-a: " + b"a" * 5000 + b"\r\ncontent-length: 0\r\n\r\n")


async def slow_body(it: Asking) -> Answer:
    return await it.raw(f"POST {it.path} HTTP/1.1", b'content-length: 50\r\n\r\n{"model"')


async def full(it: Asking) -> Answer:
    return await it.ask(x_fake="status=429")


async def key_spent(it: Asking) -> Answer:
    install(it.node, keys=(key(requests_per_minute=1),))
    await it.ask(x_api_key=KEY, **AFAR)
    return await it.ask(x_api_key=KEY, **AFAR)


async def failing(it: Asking) -> Answer:
    return await it.ask(x_fake="status=500")


async def loading(it: Asking) -> Answer:
    it.node.own({"one": replace(it.node.served["one"], state=ModelState.LOADING)})
    return await it.ask()


async def nobody_has_it(it: Asking) -> Answer:
    lost: Mapping[Any, ModelRoute] = {"lost": ModelRoute("lost")}  # type: ignore[arg-type]
    install(it.node, models=lost)
    return await it.ask(it.body(model="lost"))


async def drained(it: Asking) -> Answer:
    it.node.routes.set_draining(draining=True)
    return await it.ask()


async def silent(it: Asking) -> Answer:
    return await it.ask(x_fake="hang=1")


async def out_of_time(it: Asking) -> Answer:
    return await it.ask(x_fake="hang=1", x_swarm_timeout_s="0.2")


async def looped(it: Asking) -> Answer:
    return await it.ask(via=f"1.1 {it.node.plane.via.decode()}")


TABLE: list[tuple[Act, int, str, str, str, tuple[str, ...]]] = [
    (bad_json, 400, "invalid_request", "invalid_request_error", "invalid_request_error", ()),
    (wrong_type, 400, "invalid_request", "invalid_request_error", "invalid_request_error", ()),
    (
        too_long, 400, "context_length_exceeded", "invalid_request_error", "invalid_request_error",
        ("maximum context length is 64 tokens. However, you requested", "prompt is too long:"),
    ),
    (no_key, 401, "invalid_api_key", "authentication_error", "authentication_error", ("API key",)),
    (foreign_page, 403, "forbidden", "permission_error", "permission_error", ("Origin",)),
    (not_its_model, 403, "forbidden", "permission_error", "permission_error", ("may not use",)),
    (unknown, 404, "model_not_found", "invalid_request_error", "not_found_error", ("m1",)),
    (other_method, 405, "method_not_allowed", "invalid_request_error", "invalid_request_error", ("POST",)),
    (large_body, 413, "request_too_large", "invalid_request_error", "request_too_large", ("20000 bytes",)),
    (large_head, 431, "head_too_large", "invalid_request_error", "invalid_request_error", ()),
    (slow_body, 408, "request_timeout", "invalid_request_error", "invalid_request_error", ("too long",)),
    (full, 429, "saturated", "rate_limit_error", "rate_limit_error", ("full",)),
    (key_spent, 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error", ("a minute",)),
    (failing, 502, "upstream_failed", "api_error", "api_error", ("1 node was tried",)),
    (loading, 503, "model_loading", "api_error", "overloaded_error", ("loaded",)),
    (nobody_has_it, 503, "no_replica", "api_error", "overloaded_error", ("known",)),
    (drained, 503, "draining", "api_error", "overloaded_error", ("draining",)),
    (silent, 504, "upstream_timeout", "api_error", "api_error", ("in time",)),
    (out_of_time, 504, "upstream_timeout", "api_error", "api_error", ("time is over",)),
    (looped, 508, "loop", "api_error", "api_error", ("through this swarm",)),
]  # fmt: skip
STATES = {"model_loading": "loading", "no_replica": "absent", "draining": "draining"}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("act", "status", "code", "openai", "anthropic", "words"),
    [pytest.param(*row, id=row[0].__name__) for row in TABLE],
)
async def test_each_row_in_each_dialect(
    swarm: TestSwarm,
    backend: FakeBackend,
    dialect: str,
    act: Act,
    status: int,
    code: str,
    openai: str,
    anthropic: str,
    words: tuple[str, ...],
) -> None:
    async with running_node("a", {"one": Served(backend)}, swarm=swarm, policy=LIMITS) as node:
        swarm.connect()
        async with client(node) as http:
            answer = await act(Asking(http, node, DIALECTS[dialect]))
            assert answer.status == status, answer.body
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["x-request-id"]
            document = answer.json
            if dialect == "openai":
                assert set(document["error"]) >= {"message", "type", "code", "param"}
                assert (document["error"]["type"], document["error"]["code"]) == (openai, code)
                sentence = document["error"]["message"]
            elif dialect == "anthropic":
                assert document["type"] == "error"
                assert document["error"]["type"] == anthropic
                sentence = document["error"]["message"]
            else:
                sentence = document["error"]
            assert isinstance(sentence, str)
            assert not words or any(word in sentence for word in words), sentence
            assert "127.0.0.1" not in sentence
            assert str(backend.port) not in sentence
            if status in {429, 503}:
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            if code in STATES:
                assert document["swarm"]["state"] == STATES[code]
            if status == 400:
                # The connection stays usable.
                assert (await http.get("/healthz")).status == 200


def test_the_table_is_the_one_of_the_codes() -> None:
    """Kills: a status, a type or a slug that is changed in one place only."""
    for _, status, slug, openai, anthropic, _ in TABLE:
        code = Code.of_slug(slug)
        assert (code.slug, code.http_status, code.openai_type, code.anthropic_type) == (
            slug, status, openai, anthropic,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "begins"),
    [
        ("/v1/chat/completions", b'data: {"error":{'),
        ("/v1/messages", b'event: error\ndata: {"type":"error"'),
        ("/api/chat", b'{"error":"'),
    ],
)
async def test_a_stream_that_breaks_ends_as_its_dialect_says(
    swarm: TestSwarm, backend: FakeBackend, path: str, begins: bytes
) -> None:
    async with running_node("a", {"one": Served(backend)}, swarm=swarm, policy=LIMITS) as node:
        swarm.connect()
        async with client(node) as http:
            body = Asking(http, node, path).body(stream=True)
            answer = await http.ask(body, path, x_fake="chunks=3;interval_s=0.02;done=0")
            assert answer.status == 200
            pieces = answer.body.strip().split(b"\n\n" if path != "/api/chat" else b"\n")
            assert pieces[-1].startswith(begins), pieces[-1]
            assert b"[DONE]" not in answer.body
            assert b"message_stop" not in answer.body
            assert b'"done":true' not in answer.body
