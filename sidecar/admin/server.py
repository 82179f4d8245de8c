"""The admin listener (INTERFACE "Sidecar admin"): documents by GET, acts by POST from this machine only."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog
from aiohttp import hdrs, web

from sidecar.admin import documents, guard
from sidecar.admin.metrics_listener import metrics_page
from sidecar.admin.page import doctor_page, page
from sidecar.admin.sources import Sources
from sidecar.routing.explaining import USUAL_TOKENS
from swarmplane.errors import Code, ForbiddenError, InvalidRequestError, SwarmError

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_STOP_S: Final = 1.0
_MOST_BODY_BYTES: Final = 64 * 1024
_DIGITS: Final = 9
_USUAL_TRACES: Final = 50
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves ``sources`` on a socket that listens already.

    Args:
        sources: What is shown.
        bound: Closed when :meth:`run` ends.
    """

    def __init__(self, sources: Sources, bound: socket.socket) -> None:
        self._sources = sources
        self._socket = bound
        self._names = guard.own_names()
        self.serving = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; :attr:`serving` is set once requests are answered."""
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=_STOP_S)
        await runner.setup()
        try:
            site = web.SockSite(runner, self._socket)
            await site.start()
            self.serving.set()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def application(self) -> web.Application:
        """The application, also for tests."""
        app = web.Application(middlewares=[self._guarded], client_max_size=_MOST_BODY_BYTES)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/routes", self._routes),
                web.get("/endpoints", self._endpoints),
                web.get("/explain", self._explain),
                web.get("/config", self._config),
                web.get("/backends", self._backends),
                web.get("/control", self._control),
                web.get("/doctor", self._doctor_button),
                web.post("/doctor", self._doctor),
                web.get("/requests", self._requests),
                web.get("/traces", self._traces),
                web.post("/drain", self._drain),
                web.post("/undrain", self._undrain),
                web.post("/logging", self._logging),
                web.post("/reload", self._reload),
            ]
        )
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            self._admit(request)
            return await handler(request)
        except SwarmError as error:
            return _error(error)
        except web.HTTPException as refusal:
            code = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 413: Code.REQUEST_TOO_LARGE}.get(
                refusal.status, Code.INVALID_REQUEST
            )
            response = _error(SwarmError(f"{request.method} {request.path}: {refusal.reason}", code=code))
            if hdrs.ALLOW in refusal.headers:
                response.headers[hdrs.ALLOW] = refusal.headers[hdrs.ALLOW]
            return response

    def _admit(self, request: web.Request) -> None:
        """Refuse what a web page on this machine's browser could send, and acts from elsewhere."""
        if not guard.admits_host(request.headers.get(hdrs.HOST, ""), own_names=self._names):
            raise ForbiddenError("this Host is not this machine's; use 127.0.0.1 or localhost")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and not guard.admits_origin(origin):
            raise ForbiddenError("pages of other origins may not use the admin listener")
        forwarded = request.headers.keys() & {"Forwarded", "X-Forwarded-For"}
        if request.method == hdrs.METH_POST and (forwarded or not guard.is_loopback(request.remote or "")):
            raise ForbiddenError("this takes effect from the machine itself only; run it there")

    async def _page(self, _request: web.Request) -> web.Response:
        sources = self._sources
        return _html(page(sources.routes, sources.clock.now_s()))

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _document({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = self._sources.unready()
        return _document({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return await metrics_page(self._sources)

    async def _routes(self, _request: web.Request) -> web.Response:
        return _document(documents.routes_document(self._sources.routes.view, time.time()))

    async def _endpoints(self, _request: web.Request) -> web.Response:
        sources = self._sources
        return _document(documents.endpoints_document(sources.routes, sources.clock.now_s()))

    async def _explain(self, request: web.Request) -> web.Response:
        sources = self._sources
        tokens = _number(request, "prompt_tokens", USUAL_TOKENS)
        found = documents.explain_document(
            sources.routes, request.query.get("model", ""), sources.clock.now_s(), prompt_tokens=tokens
        )
        return _document(found)

    async def _config(self, _request: web.Request) -> web.Response:
        return _document({"schema": "sidecar.config/v1", "settings": self._sources.config()})

    async def _backends(self, _request: web.Request) -> web.Response:
        return _document({"schema": "sidecar.backends/v1", "items": list(self._sources.backends())})

    async def _control(self, _request: web.Request) -> web.Response:
        return _document({"schema": "sidecar.control/v1", **self._sources.control()})

    async def _doctor_button(self, _request: web.Request) -> web.Response:
        """Starts nothing: any page's ``<img>`` can GET it."""
        return _html(doctor_page(None))

    async def _doctor(self, request: web.Request) -> web.Response:
        """For people where they ask with a browser; an act, since each is a process."""
        found = await self._sources.examine()
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            return _document(found)
        return _html(doctor_page(found))

    async def _requests(self, _request: web.Request) -> web.Response:
        return _document({"schema": "sidecar.requests/v1", "items": list(self._sources.requests())})

    async def _traces(self, request: web.Request) -> web.Response:
        limit = _number(request, "limit", _USUAL_TRACES)
        await self._sources.settle()
        return _document({"schema": "sidecar.traces/v1", "items": list(self._sources.traces(limit))})

    async def _drain(self, _request: web.Request) -> web.Response:
        return self._set_draining(draining=True)

    async def _undrain(self, _request: web.Request) -> web.Response:
        return self._set_draining(draining=False)

    def _set_draining(self, *, draining: bool) -> web.Response:
        self._sources.routes.set_draining(draining=draining)
        log.info("sidecar.drain_set", draining=draining)
        return _document({"draining": draining, "in_flight": len(self._sources.requests())})

    async def _reload(self, _request: web.Request) -> web.Response:
        return _document({"schema": "sidecar.reload/v1", **await self._sources.reload()})

    async def _logging(self, request: web.Request) -> web.Response:
        level = request.query.get("level", "") or _level_of(await request.text())
        self._sources.set_log_level(level)
        return _document({"level": level})


def _number(request: web.Request, name: str, usual: int) -> int:
    text = request.query.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidRequestError(f"{name} must be a number", param=name)
    return int(text)


def _level_of(body: str) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("level"), str):
        raise InvalidRequestError('say which level: ?level=debug, or {"level": "debug"}')
    return str(document["level"])


def _html(text: str) -> web.Response:
    policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    return web.Response(text=text, content_type="text/html", headers={"content-security-policy": policy})


def _document(document: Mapping[str, Any], *, status: int = 200) -> web.Response:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return web.Response(text=text + "\n", status=status, content_type="application/json")


def _error(error: SwarmError) -> web.Response:
    code = error.code
    body = {"message": error.message, "type": code.openai_type, "code": code.slug, "param": None}
    return _document({"error": body}, status=code.http_status)
