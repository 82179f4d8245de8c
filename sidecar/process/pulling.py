"""Pulls that the control plane told this node to make, at its own Ollama backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import aiohttp
import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import Target
from sidecar.routing.current import CurrentRoutes
from swarmplane.clock import Clock
from swarmplane.pulls import DONE, FAILED, Pull, PullReport

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SILENT_S: Final = 300.0
"""So long a backend may say nothing of a pull."""
_LISTED_S: Final = 30.0
"""So long it may take until a model that was pulled is listed."""
_LOOK_S: Final = 0.2
_REPORT_S: Final = 1.0
_LONGEST_LINE: Final = 65_536


class Puller:
    """Does what the table's pulls say of this node; tells how they go by :meth:`reports`.

    A pull that the table does not name any more is over for us: the backend goes on or not, as it likes.
    """

    def __init__(self, routes: CurrentRoutes, registry: BackendRegistry, clock: Clock) -> None:
        self._routes = routes
        self._registry = registry
        self._clock = clock
        self._reports: dict[str, PullReport] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        routes.subscribe(self._changed.set)

    def reports(self) -> Sequence[PullReport]:
        """How each goes, or ended."""
        return tuple(self._reports.values())

    async def run(self) -> None:
        """Make pulls until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_SILENT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                view = self._routes.view
                wanted = {pull.model: pull for pull in view.table.pulls if pull.node == view.node}
                for model in self._reports.keys() - wanted.keys():
                    del self._reports[model]
                    self._running.pop(model).cancel()
                for model in wanted.keys() - self._reports.keys():
                    self._reports[model] = PullReport(model)
                    self._running[model] = group.create_task(
                        self._make(session, wanted[model]), name=f"pull {model}"
                    )
                self._changed.clear()
                await self._changed.wait()

    async def _make(self, session: aiohttp.ClientSession, pull: Pull) -> None:
        target = self._registry.targets.get(pull.backend)
        log.info("pull.begun", model=pull.model, backend=pull.backend)
        try:
            failure = await self._pull(session, pull, target) if target else "its backend is gone"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("pull.broke", model=pull.model, error=type(error).__name__)
            failure = "the backend went away or said nothing"
        if not failure:
            failure = await self._listed(pull)
        before = self._reports.get(pull.model)
        if before is None:
            return
        log.info("pull.ended", model=pull.model, reason=failure or "done")
        state = FAILED if failure else DONE
        self._reports[pull.model] = replace(before, state=state, reason=failure, eta_s=0.0)

    async def _pull(self, session: aiohttp.ClientSession, pull: Pull, target: Target) -> str:
        """Why it failed; empty: it did not."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in target.headers}
        begun_s = told_s = self._clock.now_s()
        first_bytes = -1
        body = {"model": pull.model, "stream": True}
        async with session.post(f"{target.url}/api/pull", json=body, headers=headers) as answer:
            while line := await answer.content.readline():
                found = _line(line)
                if "error" in found:
                    return f"the backend refuses: {str(found['error'])[:200]}"
                if found.get("status") == "success":
                    return ""
                total, completed = _count(found.get("total")), _count(found.get("completed"))
                now_s = self._clock.now_s()
                if not total or now_s - told_s < _REPORT_S:
                    continue
                told_s = now_s
                if first_bytes < 0:
                    begun_s, first_bytes = now_s, completed
                rate = (completed - first_bytes) / (now_s - begun_s) if now_s > begun_s else 0.0
                eta_s = round((total - completed) / rate, 1) if rate > 0 else 0.0
                self._reports[pull.model] = PullReport(
                    pull.model, completed_bytes=completed, total_bytes=total, eta_s=eta_s
                )
            return f"the backend answered {answer.status}" if answer.status >= 400 else "it broke off"  # noqa: PLR2004

    async def _listed(self, pull: Pull) -> str:
        """Wait until the backend lists it: only then others may know that it is there."""
        self._registry.look(pull.backend)
        ends_s = self._clock.now_s() + _LISTED_S
        while self._clock.now_s() < ends_s:
            route = self._routes.view.find(pull.model)
            if route is not None and any(endpoint.node == pull.node for endpoint in route.endpoints):
                return ""
            await self._clock.sleep(_LOOK_S)
        return "the backend does not list it"


def _line(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line) if len(line) <= _LONGEST_LINE else None
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
