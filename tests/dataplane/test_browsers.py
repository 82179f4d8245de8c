"""Requests as browsers send them: pages of others get nothing done, pages of this machine do."""

from __future__ import annotations

import json

import pytest

from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, Answer, Client, Node, Served, client, running_node

BROWSER = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0\r\n"
    "accept: */*\r\naccept-encoding: gzip, deflate, br, zstd\r\naccept-language: en-US,en;q=0.9\r\n"
    "sec-fetch-dest: empty\r\nsec-fetch-mode: cors\r\n"
)
PATHS = ("/v1/chat/completions", "/v1/messages", "/api/chat", "/api/pull", "/v1/models")
OURS = (
    "http://localhost:3000",
    "http://127.0.0.1:8080",
    "http://[::1]:5173",
    "https://localhost",
    "http://app.localhost:1234",
    "app://obsidian.md",
    "tauri://localhost",
    "vscode-webview://1abc",
    "file://",
)
OTHERS = (
    "https://evil.example",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://evil.example:11400",
    "https://localhost@evil.example",
    "null",
    "http://192.168.1.9:3000",
    "chrome-extension://abc",
    "",
)


async def fetch(
    http: Client,
    method: str,
    path: str,
    origin: str | None,
    *,
    body: bytes = b"",
    host: str = "localhost",
    **more: str,
) -> Answer:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
    if origin is not None:
        lines += f"origin: {origin}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{BROWSER}{lines}content-length: {len(body)}\r\n\r\n"
    http.send(head.encode() + body)
    return await http.answer(head_only=method == "HEAD")


async def preflight(http: Client, path: str, origin: str) -> Answer:
    return await fetch(
        http, "OPTIONS", path, origin,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type,x-stainless-lang",
    )  # fmt: skip


@pytest.mark.parametrize("origin", OTHERS)
async def test_a_foreign_page_gets_nothing_done(node: Node, backend: FakeBackend, origin: str) -> None:
    """Not by a preflight, not by the requests that need none: forms and fetches of text."""
    said = json.dumps(CHAT).encode()
    async with client(node) as http:
        for path in PATHS:
            asked = await preflight(http, path, origin)
            assert asked.status == 403
            assert "access-control-allow-origin" not in asked.headers
            for kind in ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "application/json"):
                simple = await fetch(http, "POST", path, origin, body=said, content_type=kind)
                assert simple.status == 403, (path, kind)
                assert "access-control-allow-origin" not in simple.headers
        assert (await fetch(http, "GET", "/v1/models", origin)).status == 403
        assert (await fetch(http, "DELETE", "/api/delete", origin, body=b'{"model":"m1"}')).status == 403
        # The connection, which a browser shares among pages, lives.
        assert (await http.ask(CHAT)).status == 200
    assert len(backend.asked) == 1


@pytest.mark.parametrize("origin", OURS)
async def test_a_page_of_this_machine_asks_and_reads(node: Node, origin: str) -> None:
    async with client(node) as http:
        asked = await preflight(http, "/v1/chat/completions", origin)
        assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, origin)
        assert "POST" in asked.headers["access-control-allow-methods"]
        # A star does not stand for this one.
        assert "authorization" in asked.headers["access-control-allow-headers"]
        answer = await fetch(
            http, "POST", "/v1/chat/completions", origin, body=json.dumps(CHAT).encode(),
            content_type="application/json", authorization="Bearer x",
        )  # fmt: skip
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "origin" in answer.headers["vary"]
        wrong = await fetch(http, "POST", "/v1/chat/completions", origin, body=b"{")
        assert (wrong.status, wrong.headers["access-control-allow-origin"]) == (400, origin)
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:11400", "localhost.evil.example", "127.0.0.1.nip.io:11400"]
)
async def test_a_rebound_name_is_none_of_ours(node: Node, backend: FakeBackend, host: str) -> None:
    """The page's name resolves to loopback by now: it is same-origin, so no Origin may come at all."""
    async with client(node) as http:
        for origin in (None, f"http://{host}"):
            for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/")):
                body = json.dumps(CHAT).encode() if method == "POST" else b""
                answer = await fetch(http, method, path, origin, body=body, host=host)
                assert answer.status == 403
                assert "m1" not in answer.body.decode()
    assert not backend.asked


async def test_what_the_settings_admit(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_ORIGINS", "https://one.example, https://two.example/")
    served = {"one": Served(backend)}
    async with (
        running_node(served=served, origins=("https://chat.example",), hosts=("models.example",)) as node,
        client(node) as http,
    ):
        for origin in ("https://chat.example", "https://one.example", "https://two.example"):
            assert (await fetch(http, "GET", "/v1/models", origin)).status == 200
        assert (await fetch(http, "GET", "/v1/models", "https://three.example")).status == 403
        assert (await fetch(http, "GET", "/v1/models", None, host="models.example:11400")).status == 200
    async with running_node(served=served, origins=("*",)) as node, client(node) as http:
        assert (await fetch(http, "GET", "/v1/models", "https://three.example")).status == 200


async def test_a_page_needs_a_key_where_everybody_does(backend: FakeBackend) -> None:
    """The preflight bears no key; the refusal may be read by the page, which can then ask its user."""
    origin = "http://localhost:3000"
    async with running_node(served={"one": Served(backend)}, auth="always") as node, client(node) as http:
        asked = await preflight(http, "/v1/chat/completions", origin)
        assert asked.status == 204
        refused = await fetch(http, "POST", "/v1/chat/completions", origin, body=json.dumps(CHAT).encode())
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, origin)
        foreign = await fetch(http, "POST", "/v1/chat/completions", "https://evil.example", body=b"{}")
        assert foreign.status == 403
