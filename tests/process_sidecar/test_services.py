"""Start together, stop in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sidecar.process.services import Service, Stop, serve


class Recorder:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.stop = Stop(asyncio.Event(), asyncio.Event())

    def service(
        self,
        name: str,
        *,
        drain: Callable[[], Awaitable[None]] | None = None,
        drain_s: float = 5.0,
    ) -> Service:
        async def run() -> None:
            self.events.append(f"run {name}")
            try:
                await asyncio.Event().wait()
            finally:
                self.events.append(f"end {name}")

        async def drained() -> None:
            self.events.append(f"drain {name}")
            if drain is not None:
                await drain()

        return Service(name, run, drained, drain_s)

    async def started(self) -> None:
        await asyncio.sleep(0)
        self.events.append("started")
        self.stop.ask()


async def never() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise OSError("no")


async def test_services_start_in_order_and_stop_in_reverse() -> None:
    recorder = Recorder()
    async with asyncio.timeout(20):
        await serve(
            [recorder.service("a"), recorder.service("b")], stop=recorder.stop, started=recorder.started
        )
    assert recorder.events == ["run a", "run b", "started", "drain b", "end b", "drain a", "end a"]


@pytest.mark.parametrize("drain", [never, fail])
async def test_a_drain_that_takes_too_long_or_fails_stops_nothing_else(
    drain: Callable[[], Awaitable[None]],
) -> None:
    recorder = Recorder()
    services = [recorder.service("a"), recorder.service("b", drain=drain, drain_s=0.05)]
    async with asyncio.timeout(20):
        await serve(services, stop=recorder.stop, started=recorder.started)
    assert recorder.events[-4:] == ["drain b", "end b", "drain a", "end a"]


async def test_a_second_request_stops_at_once() -> None:
    recorder = Recorder()

    async def hurried() -> None:
        recorder.stop.ask()
        await never()

    services = [recorder.service("a"), recorder.service("b", drain=hurried, drain_s=1000)]
    async with asyncio.timeout(20):
        await serve(services, stop=recorder.stop, started=recorder.started)
    assert recorder.events[-1] == "end a"


async def test_a_service_that_fails_takes_the_others_down() -> None:
    recorder = Recorder()

    async def idle() -> None:
        pass

    with pytest.raises(ExceptionGroup) as failed:
        async with asyncio.timeout(20):
            await serve([recorder.service("a"), Service("broken", fail)], stop=recorder.stop, started=idle)
    assert failed.group_contains(OSError, match="no")
    assert "end a" in recorder.events


async def test_a_service_that_ends_by_itself_is_a_failure() -> None:
    async def idle() -> None:
        pass

    stop = Stop(asyncio.Event(), asyncio.Event())
    with pytest.raises(ExceptionGroup) as failed:
        async with asyncio.timeout(20):
            await serve([Service("short", idle)], stop=stop, started=idle)
    assert failed.group_contains(RuntimeError, match="short ended by itself")
