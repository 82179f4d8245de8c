"""Reading the settings again, and taking what can change while running into use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from sidecar.dataplane.policy import LIVE
from swarmplane import logs
from swarmplane.errors import InvalidRequestError, SwarmError
from swarmplane.settings.changes import changed
from swarmplane.settings.schema import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SEARCH = ("discovery.backends", "discovery.ports", "discovery.ignore")
_APPLIED = frozenset({"log.level", "log.format", "backends", "upstream.max_models", *_SEARCH, *LIVE})


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Keys that changed."""

    applied: tuple[str, ...]
    restart_needed: tuple[str, ...]
    refused: str = ""
    """Why the settings were refused; then nothing changed."""


def changed_keys(before: Settings, after: Settings) -> Reloaded:
    """Which settings differ, and which of them a running sidecar takes into use."""
    found = changed(before, after)
    return Reloaded(
        tuple(key for key in found if key in _APPLIED), tuple(key for key in found if key not in _APPLIED)
    )


def set_log_level(level: str, style: str) -> None:
    """Log from ``level`` on.

    Raises:
        InvalidRequestError: There is no such level.
    """
    if level not in logs.LEVELS:
        raise InvalidRequestError(f"{level!r} is no log level; use one of {', '.join(logs.LEVELS)}")
    logs.configure(level, style)


class Reloader:
    """Reloads on request, one at a time. Settings that are wrong change nothing.

    Args:
        settings: Those in use.
        read: Reads them again; blocks for disk.
        registry: Whose backends follow the settings.
        adopt: Takes limits and time-outs into use.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        registry: BackendRegistry,
        adopt: Callable[[Settings], None] = lambda _settings: None,
    ) -> None:
        self._settings = self._started = settings
        self._read = read
        self._registry = registry
        self._adopt = adopt
        self._asked = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def ask(self) -> None:
        """Reload soon; for a signal handler."""
        self._asked.set()

    def in_force(self) -> Settings:
        """What this sidecar goes by: the settings read last, but for keys that need a restart."""
        found, latest = self._started.model_dump(), self._settings.model_dump()
        for key in changed_keys(self._started, self._settings).applied:
            *sections, name = key.split(".")
            table, source = found, latest
            for section in sections:
                table, source = table[section], source[section]
            table[name] = source[name]
        return Settings.model_validate(found)

    async def run(self) -> None:
        """Reload whenever asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload()

    async def answer(self) -> Mapping[str, Any]:
        """Reload now, and say what came of it.

        Raises:
            InvalidRequestError: The settings are wrong; nothing changed.
        """
        found = await self.reload()
        if found.refused:
            raise InvalidRequestError(found.refused)
        return {"applied": list(found.applied), "restart_needed": list(found.restart_needed)}

    async def reload(self) -> Reloaded:
        """Reload now. What was refused is logged, and nothing has changed then.

        A key that needs a restart is named again by every reload until then.
        """
        async with self._one_at_a_time:
            return await self._reload()

    async def _reload(self) -> Reloaded:
        try:
            settings = await asyncio.to_thread(self._read)
            wanted = {spec.name: spec for spec in map(BackendSpec.from_settings, settings.backends)}
        except (SwarmError, OSError) as error:
            log.warning("settings.refused", reason=str(error))
            return Reloaded((), (), str(error))
        found = replace(
            changed_keys(self._settings, settings),
            restart_needed=changed_keys(self._started, settings).restart_needed,
        )
        for spec in map(BackendSpec.from_settings, self._settings.backends):
            if wanted.get(spec.name) != spec:
                self._registry.remove(spec.name)
        refused = self._add(wanted.values())
        set_log_level(settings.log.level, settings.log.format)
        self._adopt(settings)
        self._settings = settings
        log.info(
            "settings.reloaded",
            applied=found.applied,
            restart_needed=found.restart_needed,
            refused_backends=refused,
        )
        return found

    def _add(self, wanted: Iterable[BackendSpec]) -> list[str]:
        refused = []
        for spec in wanted:
            try:
                self._registry.add(spec)
            except SwarmError as error:
                refused.append(error.message)
        return refused
