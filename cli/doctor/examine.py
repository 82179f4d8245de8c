"""Ask all sources at once, each in bounded time, then judge. What does not answer makes rows, no error."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cli.doctor.check import AnyCheck, Row, SkippedError, Source, State
from cli.doctor.host import ExaminedHost
from swarmplane.errors import SwarmError, reason_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Missing:
    """A fact that there is not."""

    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    done: int
    """Facts that were gathered, or given up."""
    of: int
    waiting: tuple[str, ...]
    """Ids of the checks whose facts are waited for."""


def _silent(_progress: Progress) -> None:
    """Nobody looks."""


async def examine(
    host: ExaminedHost, checks: Sequence[AnyCheck], tell: Callable[[Progress], None] = _silent
) -> list[Row]:
    """A row for each of ``checks``, in their order. It takes as long as the slowest source may.

    ``tell`` is called at the begin, and whenever a fact is there.
    """
    sources = list(dict.fromkeys(check.source for check in checks))
    facts: dict[Source[Any], object] = {}

    def told() -> None:
        waiting = tuple(check.id for check in checks if check.source not in facts)
        tell(Progress(len(facts), len(sources), waiting))

    async def gather(source: Source[Any]) -> None:
        facts[source] = await _fact(source, host)
        told()

    told()
    async with asyncio.TaskGroup() as group:
        for number, source in enumerate(sources):
            group.create_task(gather(source), name=f"doctor-{number}")
    return rows(checks, facts)


def rows(checks: Sequence[AnyCheck], facts: Mapping[Source[Any], Any]) -> list[Row]:
    """The verdict of each check on its fact."""
    return [_row(check, facts[check.source]) for check in checks]


def _row(check: AnyCheck, fact: object) -> Row:
    if isinstance(fact, _Missing):
        return Row(check, fact.state, fact.reason, "", check.severity)
    try:
        verdict = check.judge(fact)
    except SkippedError as why:
        return Row(check, "skipped", str(why), "", check.severity)
    state: State = "ok" if verdict.ok else "failed"
    return Row(check, state, verdict.detail, verdict.fix, verdict.severity or check.severity)


async def _fact(source: Source[Any], host: ExaminedHost) -> object:
    try:
        async with asyncio.timeout(source.limit_s):
            if source.ask is not None:
                return await source.ask(host)
            if source.gather is not None:
                return await _on_thread(source.gather, host)
            raise SkippedError("nothing gathers it")
    except SkippedError as why:
        return _Missing("skipped", str(why))
    except TimeoutError:
        return _Missing("unknown", f"no answer within {source.limit_s:g} s")
    except SwarmError as error:
        return _Missing("unknown", error.message)
    except OSError as error:
        return _Missing("unknown", reason_of(error))


def _on_thread(work: Callable[[ExaminedHost], T], host: ExaminedHost) -> Awaitable[T]:
    """``work`` on a thread that nobody has to wait for: a hung disk or resolver must not hold the command."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type] # work's own result where nothing was raised

    def run() -> None:
        result, problem = None, None
        try:
            result = work(host)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return outcome
