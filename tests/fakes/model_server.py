"""An inference server that only lists its models, and can be told to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class ModelServer:
    """Answers as its fields say; notes what it was asked."""

    models: list[Any] = field(default_factory=list)
    owner: str = "openai"
    key: str = ""
    status: int = 200
    health: int = 404
    body: bytes | None = None
    props: dict[str, Any] | None = None
    node: bool = False
    delay_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    port: int = 0

    def listing(self) -> dict[str, Any]:
        """What ``/v1/models`` answers."""
        entries = [one if isinstance(one, dict) else {"id": one} for one in self.models]
        return {"object": "list", "data": [{"owned_by": self.owner, **entry} for entry in entries]}

    async def answer(self, request: web.Request) -> web.Response:
        """One request."""
        self.asked.append(request.path)
        self.headers.append(request.headers.get("authorization", ""))
        await asyncio.sleep(self.delay_s)
        if request.path == "/.well-known/swarmplane":
            return web.json_response({"swarm": "s"} if self.node else {}, status=200 if self.node else 404)
        if request.path == "/health":
            return web.json_response({}, status=self.health)
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "no"}, status=401)
        if request.path == "/props":
            return web.json_response(self.props or {}, status=200 if self.props else 404)
        if self.body is not None:
            return web.Response(body=self.body)
        return web.json_response(self.listing(), status=self.status)

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[ModelServer]:
        """Serve on 127.0.0.1."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
            await site.start()
            self.port = runner.addresses[0][1]
            yield self
        finally:
            await runner.cleanup()
