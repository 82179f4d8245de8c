"""The console's listener (11404), and one for metrics alone: ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from aiohttp import hdrs, web

from controlplane.console.metrics import Figures, render
from swarmplane.errors import SwarmError
from swarmplane.exposition import CONTENT_TYPE

_STOP_S: Final = 1.0
_MOST_BODY_BYTES: Final = 1024


class Reloaded(Protocol):
    """What came of a reload."""

    @property
    def applied(self) -> Sequence[str]:
        """Keys in use from now on."""

    @property
    def restart_needed(self) -> Sequence[str]:
        """Keys that changed and are not."""


class Console:
    """Answers about this instance. ``unready`` gives the reason why it does not serve; empty: it does."""

    def __init__(
        self,
        figures: Callable[[], Awaitable[Figures]],
        unready: Callable[[], Awaitable[str]],
        store: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
    ) -> None:
        self._figures = figures
        self._store = store
        self._unready = unready
        self._reload: Callable[[], Reloaded] | None = None

    @asynccontextmanager
    async def serving(self, bound: socket.socket) -> AsyncIterator[None]:
        """Answer at ``bound`` as long as it is entered."""
        async with self._serving(bound, [*self._open_routes(), *self._own_routes()]):
            yield

    @asynccontextmanager
    async def serving_metrics(self, bound: socket.socket) -> AsyncIterator[None]:
        """Answer at ``bound``, to anybody, what shows metrics and health and does nothing else."""
        async with self._serving(bound, self._open_routes()):
            yield

    def reload_by(self, reload: Callable[[], Reloaded]) -> None:
        """Let ``POST /reload`` call ``reload``, in a thread."""
        self._reload = reload

    def _own_routes(self) -> list[web.RouteDef]:
        return [web.get("/store", self._store_page), web.post("/reload", self._reload_now)]

    async def _store_page(self, request: web.Request) -> web.Response:
        if self._store is None:
            raise web.HTTPNotFound
        if not _near(request):
            return _elsewhere("this is told on the machine itself only; ask there")
        return web.json_response({"schema": "controlplane.store/v1", **await self._store()})

    def _open_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
        ]

    @asynccontextmanager
    async def _serving(self, bound: socket.socket, routes: Sequence[web.RouteDef]) -> AsyncIterator[None]:
        application = web.Application(client_max_size=_MOST_BODY_BYTES)
        application.add_routes(routes)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_STOP_S)
        await runner.setup()
        try:
            await web.SockSite(runner, bound).start()
            yield
        finally:
            await runner.cleanup()

    async def _reload_now(self, request: web.Request) -> web.Response:
        if not _near(request) or self._reload is None:
            return _elsewhere("this takes effect from the machine itself only; run it there")
        try:
            found = await asyncio.to_thread(self._reload)
        except SwarmError as error:
            body = {"message": error.message, "code": error.code.slug}
            return web.json_response({"error": body}, status=error.code.http_status)
        applied, restart_needed = list(found.applied), list(found.restart_needed)
        return web.json_response(
            {"schema": "controlplane.reload/v1", "applied": applied, "restart_needed": restart_needed}
        )

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


def _near(request: web.Request) -> bool:
    """Whether a program on this machine asks.

    A page in a browser on this machine comes from loopback too; it names its origin, or was brought here
    under a name of its own. A proxy says that it forwards.
    """
    if request.headers.keys() & {hdrs.ORIGIN, "Forwarded", "X-Forwarded-For"}:
        return False
    host, caller = request.url.host or "", request.remote or ""
    own = request.get_extra_info("sockname") or ("",)
    try:
        if host != "localhost":
            ipaddress.ip_address(host)
        return caller == own[0] or ipaddress.ip_address(caller).is_loopback
    except ValueError:
        return False


def _elsewhere(message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": "forbidden"}}, status=403)
