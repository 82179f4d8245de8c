"""Reading the settings again, and taking what can change while running into use."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from sidecar.process.parts import set_log_level
from swarmplane.errors import SwarmError
from swarmplane.settings.schema import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_APPLIED = ("log.level", "log.format", "backends")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Keys that changed."""

    applied: tuple[str, ...]
    restart_needed: tuple[str, ...]


def changed_keys(before: Settings, after: Settings) -> Reloaded:
    """Which settings differ, and which of them a running sidecar takes into use."""
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    changed = [key for key in new if old.get(key) != new[key]]
    return Reloaded(
        tuple(key for key in changed if key in _APPLIED), tuple(key for key in changed if key not in _APPLIED)
    )


def _flat(table: Mapping[str, Any], prefix: str = "") -> Mapping[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def on_hangup(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Call ``act`` on ``loop`` at every SIGHUP, where the platform has it."""
    number = getattr(signal, "SIGHUP", None)
    if number is not None:
        loop.add_signal_handler(number, act)


class Reloader:
    """Reloads on request, one at a time. Settings that are wrong change nothing.

    Args:
        settings: Those in use.
        read: Reads them again; blocks for disk.
        registry: Whose backends follow the settings.
    """

    def __init__(self, settings: Settings, read: Callable[[], Settings], registry: BackendRegistry) -> None:
        self._settings = settings
        self._read = read
        self._registry = registry
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Reload soon; for a signal handler."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload()

    async def reload(self) -> Reloaded:
        """Reload now. What was refused is logged, and nothing has changed then."""
        try:
            settings = await asyncio.to_thread(self._read)
            wanted = {spec.name: spec for spec in map(BackendSpec.from_settings, settings.backends)}
        except (SwarmError, OSError) as error:
            log.warning("settings.refused", reason=str(error))
            return Reloaded((), ())
        found = changed_keys(self._settings, settings)
        for spec in map(BackendSpec.from_settings, self._settings.backends):
            if wanted.get(spec.name) != spec:
                self._registry.remove(spec.name)
        refused = self._add(wanted.values())
        set_log_level(settings.log.level, settings.log.format)
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
