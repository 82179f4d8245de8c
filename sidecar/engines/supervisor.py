"""All engines of this host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.backends.probe import client_session
from sidecar.backends.registry import BackendRegistry
from sidecar.engines.engine import Engine, Surroundings
from sidecar.engines.memory import Reservations, free_bytes
from sidecar.engines.programs import Machine, Places
from sidecar.engines.references import Reference
from sidecar.engines.status import EngineStatus
from swarmplane.clock import Clock
from swarmplane.datadir import DataDir
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.schema import EngineSettings

Callback = Callable[[tuple[EngineStatus, ...]], None]


class EngineSupervisor:
    """Serves every model of ``settings`` with an engine of its own, and keeps ``registry`` told.

    The models are in the registry, loading, as soon as this exists. ``places`` and ``free`` are those of this
    machine unless given.

    Raises:
        InvalidRequestError: Two models would have the same name.
        AlreadyExistsError: A backend in ``registry`` has the name of a model.
    """

    def __init__(
        self,
        settings: EngineSettings,
        data_dir: DataDir,
        registry: BackendRegistry,
        clock: Clock,
        *,
        places: Places | None = None,
        free: Callable[[], int] = free_bytes,
    ) -> None:
        self._callbacks: list[Callback] = []
        around = Surroundings(
            settings, data_dir.engines, registry, clock, places or Machine(), free, Reservations()
        )
        references = _distinct(settings.models)
        self._engines = tuple(Engine(reference, around, self._changed) for reference in references)

    def status(self) -> tuple[EngineStatus, ...]:
        """Every engine, in the order of the settings."""
        return tuple(engine.status for engine in self._engines)

    def subscribe(self, callback: Callback) -> None:
        """Call ``callback`` on the loop, with all statuses, after every change of one."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Serve until cancelled; every engine's process is gone when it returns."""
        async with client_session() as session, asyncio.TaskGroup() as group:
            for engine in self._engines:
                group.create_task(engine.run(session), name=f"engine {engine.status.name}")
            await asyncio.get_running_loop().create_future()  # a host without engines is served too

    def _changed(self) -> None:
        status = self.status()
        for callback in self._callbacks:
            callback(status)


def _distinct(models: tuple[str, ...]) -> tuple[Reference, ...]:
    """Each model once; names that differ in case only would share a folder on some systems."""
    by_name: dict[str, Reference] = {}
    for text in models:
        reference = Reference(text)
        other = by_name.setdefault(reference.name.casefold(), reference)
        if other.text != text:
            raise InvalidRequestError(
                f"{other.text} and {text} would both be called {reference.name}; rename one of the files"
            )
    return tuple(by_name.values())
