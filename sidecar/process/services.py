"""Running the parts of a process: started together, stopped in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_CANCEL_S: Final = 15.0
"""How long a part may take to clean up once it is cancelled; a guard process may take its engines' 10 s."""


@dataclass(frozen=True, slots=True)
class Service:
    """A part that runs until it is cancelled."""

    name: str
    run: Callable[[], Awaitable[None]]
    drain: Callable[[], Awaitable[None]] | None = None
    """Finish what runs and take nothing new; called before it is cancelled."""
    drain_s: float = 5.0
    """How long that may take."""


@dataclass(frozen=True, slots=True)
class Stop:
    """What signals ask for."""

    asked: asyncio.Event
    """Drain and stop."""
    at_once: asyncio.Event
    """Stop without finishing anything."""

    def ask(self) -> None:
        """Stop; asked a second time, at once."""
        (self.at_once if self.asked.is_set() else self.asked).set()


async def serve(services: Sequence[Service], *, stop: Stop, started: Callable[[], Awaitable[None]]) -> None:
    """Run ``services`` until ``stop`` is asked for, then drain and cancel them in reverse order.

    ``started`` is awaited after all of them were started: it waits until they serve, and says so. If a
    service fails, or ends by itself, the rest are cancelled at once and the failure propagates.

    Raises:
        ExceptionGroup: One or more services failed.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_endless(service), name=service.name) for service in services]
        starting = group.create_task(_tell(started), name="started")
        await stop.asked.wait()
        starting.cancel()
        for service, task in reversed(list(zip(services, tasks, strict=True))):
            if service.drain is not None:
                await _drain(service, service.drain, stop)
            task.cancel()
            _, late = await asyncio.wait({task}, timeout=_CANCEL_S)
            if late:
                log.warning("service.stop_timed_out", service=service.name, after_s=_CANCEL_S)


async def _endless(service: Service) -> None:
    await service.run()
    raise RuntimeError(f"{service.name} ended by itself")


async def _tell(started: Callable[[], Awaitable[None]]) -> None:
    await started()


async def _drain(service: Service, drain: Callable[[], Awaitable[None]], stop: Stop) -> None:
    """Drain until done, out of time, or told to stop at once; a failure to drain is no reason not to stop."""
    try:
        async with asyncio.timeout(service.drain_s), asyncio.TaskGroup() as race:
            draining = race.create_task(_forgiving(service, drain))
            hurried = race.create_task(stop.at_once.wait())
            await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
            draining.cancel()
            hurried.cancel()
    except TimeoutError:
        log.warning("service.drain_timed_out", service=service.name, drain_s=service.drain_s)


async def _forgiving(service: Service, drain: Callable[[], Awaitable[None]]) -> None:
    try:
        await drain()
    except Exception as error:
        log.exception("service.drain_failed", service=service.name, reason=repr(error))
