"""The console's listener (11404), and one for metrics alone: ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from controlplane.console.metrics import Figures, render
from swarmplane.exposition import CONTENT_TYPE

_STOP_S: Final = 1.0
_MOST_BODY_BYTES: Final = 1024


class Console:
    """Answers about this instance. ``unready`` gives the reason why it does not serve; empty: it does."""

    def __init__(
        self, figures: Callable[[], Awaitable[Figures]], unready: Callable[[], Awaitable[str]]
    ) -> None:
        self._figures = figures
        self._unready = unready

    @asynccontextmanager
    async def serving(self, bound: socket.socket) -> AsyncIterator[None]:
        """Answer at ``bound`` as long as it is entered."""
        async with self.serving_metrics(bound):
            yield

    @asynccontextmanager
    async def serving_metrics(self, bound: socket.socket) -> AsyncIterator[None]:
        """Answer at ``bound``, to anybody, what shows metrics and health and does nothing else."""
        application = web.Application(client_max_size=_MOST_BODY_BYTES)
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_STOP_S)
        await runner.setup()
        try:
            await web.SockSite(runner, bound).start()
            yield
        finally:
            await runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = await self._unready()
        if reason:
            return web.json_response({"status": "not_ready", "reason": reason}, status=503)
        return web.json_response({"status": "ready"})

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=render(await self._figures()).encode(), headers={"content-type": CONTENT_TYPE}
        )
