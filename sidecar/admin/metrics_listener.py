"""A listener for metrics alone: it may stand where scrapers reach it, for it shows and does nothing else."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Final

from aiohttp import hdrs, web

from sidecar.admin import metrics
from sidecar.admin.sources import Sources
from swarmplane import exposition

_STOP_S: Final = 1.0
_MOST_BODY_BYTES: Final = 1024


async def metrics_page(sources: Sources) -> web.Response:
    """What ``/metrics`` shows now, requests that have just ended included."""
    await sources.settle()
    text = exposition.render(metrics.families(sources))
    return web.Response(body=text.encode(), headers={hdrs.CONTENT_TYPE: exposition.CONTENT_TYPE})


class MetricsServer:
    """Serves ``GET /metrics``, ``/healthz`` and ``/readyz`` to anybody.

    Args:
        sources: What is shown.
        bound: Listens already; closed when :meth:`run` ends.
    """

    def __init__(self, sources: Sources, bound: socket.socket) -> None:
        self._sources = sources
        self._socket = bound
        self.serving = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; :attr:`serving` is set once requests are answered."""
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=_STOP_S)
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket).start()
            self.serving.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def application(self) -> web.Application:
        """The application, also for tests."""
        app = web.Application(client_max_size=_MOST_BODY_BYTES)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _metrics(self, _request: web.Request) -> web.Response:
        return await metrics_page(self._sources)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _document({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = self._sources.unready()
        return _document({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)


def _document(document: object, *, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(document) + "\n", status=status, content_type="application/json")
