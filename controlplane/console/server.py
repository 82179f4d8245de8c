"""The console's listener (11404): ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from controlplane.console.metrics import Figures, render

_STOP_S: Final = 1.0
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Console:
    """Answers about this instance. ``unready`` gives the reason why it does not serve; empty: it does."""

    def __init__(self, figures: Callable[[], Figures], unready: Callable[[], Awaitable[str]]) -> None:
        self._figures = figures
        self._unready = unready

    @asynccontextmanager
    async def serving(self, bound: socket.socket) -> AsyncIterator[None]:
        """Answer at ``bound`` as long as it is entered."""
        application = web.Application()
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
        return web.Response(text=render(self._figures()), headers={"content-type": _TEXT})
