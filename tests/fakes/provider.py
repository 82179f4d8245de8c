"""A provider in the cloud: TLS, keys, money, and answers in the shape of OpenAI or of Anthropic."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

OPENAI = "openai"
ANTHROPIC = "anthropic"


@dataclass
class FakeProvider:
    """Answers as its fields say; notes what it was asked."""

    models: list[str] = field(default_factory=lambda: ["gpt-big", "gpt-small"])
    dialect: str = OPENAI
    key: str = "sk-right"
    public_list: bool = False
    """Whether everybody may see its models."""
    paid: bool = True
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """Paths, headers and bodies of requests."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def conversations(self) -> list[dict[str, Any]]:
        """Bodies of requests that were answered, and cost."""
        return [body for path, _, body in self.asked if isinstance(body, dict) and body.get("model")]

    def knows(self, request: web.Request) -> bool:
        if self.dialect == ANTHROPIC:
            version = request.headers.get("anthropic-version")
            return request.headers.get("x-api-key") == self.key and bool(version)
        return request.headers.get("authorization") == f"Bearer {self.key}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = await request.read()
        document: Any = json.loads(body) if body else None
        self.asked.append((request.path, dict(request.headers), document))
        listing = request.path == "/v1/models"
        if not (self.knows(request) or (listing and self.public_list)):
            return _error(401, "Incorrect API key provided: sk-***")
        if listing and self.paid:
            return web.json_response({"object": "list", "data": [{"id": one} for one in self.models]})
        refusal = self._refusal(request.path, document)
        if refusal is not None:
            return refusal
        if document.get("stream"):
            return await self._stream(request)
        return web.json_response(_message() if self.dialect == ANTHROPIC else _completion(document["model"]))

    def _refusal(self, path: str, document: Any) -> web.Response | None:
        if not self.paid:
            return _error(402, "Insufficient balance")
        if path != ("/v1/messages" if self.dialect == ANTHROPIC else "/v1/chat/completions"):
            return _error(404, "no such path")
        if not document.get("model") or "messages" not in document:
            return _error(400, "messages: field required")
        if document["model"] not in self.models:
            return _error(404, f"The model `{document['model']}` does not exist")
        return None

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        events = _message_events() if self.dialect == ANTHROPIC else _chunks()
        for event in events:
            await answer.write(event.encode())
        await answer.write_eof()
        return answer


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"type": "error", "message": message}}, status=status)


def _completion(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "from the cloud"}
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }  # fmt: skip


def _chunks() -> list[str]:
    def chunk(delta: dict[str, str], reason: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        whole = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        return f"data: {json.dumps(whole)}\n\n"

    return [chunk({"role": "assistant", "content": "from "}, None), chunk({"content": "the cloud"}, None),
            chunk({}, "stop"), "data: [DONE]\n\n"]  # fmt: skip


def _message() -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [{"type": "text", "text": "from the cloud"}], "stop_reason": "end_turn",
        "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 3},
    }  # fmt: skip


def _message_events() -> list[str]:
    start = {
        **_message(),
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 7, "output_tokens": 0},
    }
    text = {"type": "text", "text": ""}
    told: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": start}),
        ("content_block_start", {"index": 0, "content_block": text}),
        ("ping", {}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "from "}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "the cloud"}}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None},
                           "usage": {"output_tokens": 3}}),
        ("message_stop", {}),
    ]  # fmt: skip
    return [f"event: {name}\ndata: {json.dumps({'type': name, **rest})}\n\n" for name, rest in told]


@asynccontextmanager
async def running_provider(context: ssl.SSLContext, **fields: Any) -> AsyncIterator[FakeProvider]:
    """One on a free port of 127.0.0.1, with the certificate of ``context``."""
    provider = FakeProvider(**fields)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", provider.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        assert site._server is not None
        provider.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        yield provider
    finally:
        await runner.cleanup()
