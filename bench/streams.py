"""What held streams and idle clients cost one sidecar, and whether any is lost.

``python bench/streams.py [--streams 250,500,1000,2000] [--idle 10000] [--json] [--check] [--write]``.
Every event and every end marker is counted at the client. Memory is the growth of the sidecar's resident
set, which counts its connection to the client and the one to the backend; CPU is that of its process over
one window.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import crowd
import psutil
import report
from targets import HERE, Started, Target, UnavailableError, sidecar, started

from swarmplane.interpreter import interpreter_here
from swarmplane.open_files import raise_open_files

GOAL_KB = 40.0
GOAL_GROWTH = 1.25
"""CPU per event with the most streams, at most so many times that with half as many or a quarter."""
EVENTS, INTERVAL_S = 24, 0.5
WINDOW_S = 4.0


@dataclass(frozen=True)
class Held:
    """So many streams at a time."""

    streams: int
    events: int
    """That clients got, of ``streams`` times those that the backend sent."""
    lost_events: int
    ended: int
    kb_each: float
    cpu_percent: float
    cpu_us_per_event: float


@dataclass(frozen=True)
class Idle:
    """So many connections that are kept alive and say nothing."""

    clients: int
    answered_before: int
    answered_after: int
    kb_each: float
    cpu_percent: float


def slow(run: Started, events: int, interval_s: float) -> int:
    """Start the backend of slow streams; its port."""
    process = run.pipe("slow", sys.executable, str(HERE / "slow.py"), "0", str(events), str(interval_s))
    return int(process.split()[0])


def rss_kb(target: Target) -> float:
    """Resident kilobytes (1,000 bytes) of the sidecar."""
    return float(psutil.Process(target.pids[0]).memory_info().rss) / 1000


def cpu_s(target: Target) -> float:
    """CPU seconds that the sidecar spent so far."""
    times = psutil.Process(target.pids[0]).cpu_times()
    return float(times.user + times.system)


async def hold(target: Target, count: int, base_kb: float, each: int) -> Held:
    """``count`` streams of ``each`` events at a time, from their first event to their last."""
    clients = await crowd.connect(target.port, count)
    await crowd.ask(clients, stream=True)
    seen, spent_s = sum(c.events for c in clients), cpu_s(target)
    began_s = time.monotonic()
    await asyncio.sleep(WINDOW_S)
    spent_s, window_s = cpu_s(target) - spent_s, time.monotonic() - began_s
    seen = sum(c.events for c in clients) - seen
    most_kb = rss_kb(target)
    await crowd.until(lambda: all(c.ended or c.closed for c in clients), each * INTERVAL_S + 30)
    events, ended = sum(c.events for c in clients), sum(c.ended for c in clients)
    crowd.close(clients)
    await asyncio.sleep(0.5)
    return Held(
        count,
        events,
        count * each - events,
        ended,
        round((most_kb - base_kb) / count, 1),
        round(100 * spent_s / window_s, 1),
        round(spent_s * 1e6 / max(seen, 1), 1),
    )


async def rest(target: Target, count: int, window_s: float) -> Idle:
    """``count`` clients that ask once, are idle for a while, and ask again."""
    base_kb = rss_kb(target)
    clients = await crowd.connect(target.port, count)
    before = await _answers(clients)
    await asyncio.sleep(1.0)
    spent_s, began_s = cpu_s(target), time.monotonic()
    await asyncio.sleep(window_s)
    percent = 100 * (cpu_s(target) - spent_s) / (time.monotonic() - began_s)
    held_kb = rss_kb(target)
    after = await _answers(clients)
    crowd.close(clients)
    return Idle(count, before, after, round((held_kb - base_kb) / count, 1), round(percent, 1))


async def _answers(clients: list[crowd.Client]) -> int:
    await crowd.ask(clients, stream=False)
    await crowd.until(lambda: all(c.answered or c.closed for c in clients), 30.0)
    return sum(c.answered for c in clients)


async def measure(run: Started, sizes: Sequence[int], idle: int, each: int) -> tuple[list[Held], Idle | None]:
    """All of it, on one sidecar for the streams and a fresh one for those that are idle."""
    rows: list[Held] = []
    if sizes:
        target = sidecar(run, slow(run, each, INTERVAL_S))
        warm = await crowd.connect(target.port, 16)
        await _answers(warm)
        await crowd.ask(warm, stream=True)
        await crowd.until(lambda: all(c.ended for c in warm), each * INTERVAL_S + 10)
        crowd.close(warm)
        base_kb = rss_kb(target)
        rows = [await hold(target, size, base_kb, each) for size in sizes]
    resting = None
    if idle:
        target = sidecar(run, slow(run, 1, 0.0), name="idle")
        await _answers(warm := await crowd.connect(target.port, 16))
        crowd.close(warm)
        resting = await rest(target, idle, 5.0 if idle > 1000 else 1.0)
    return rows, resting


def summary(rows: Sequence[Held], idle: Idle | None) -> dict[str, bool | None]:
    """The goals; one that can't be judged here is null."""
    most = rows[-1] if rows else None
    half = [row.cpu_us_per_event for row in rows if most and row.streams * 4 >= most.streams > row.streams]
    return {
        "no event and no end is lost": all(r.ended == r.streams and not r.lost_events for r in rows),
        f"at most {GOAL_KB:g} KB a stream": most.kb_each <= GOAL_KB if most else None,
        f"CPU grows with the streams, at most {GOAL_GROWTH:g} times faster": (
            most.cpu_us_per_event <= GOAL_GROWTH * max(half) if most and half else None
        ),
        "all idle clients are answered again": (
            idle.answered_before == idle.answered_after == idle.clients if idle else None
        ),
    }


def show(rows: Sequence[Held], idle: Idle | None, goals: dict[str, bool | None]) -> None:
    """The same for people."""
    print(f"{'streams':>8} {'lost':>6} {'ended':>6} {'KB each':>8} {'CPU %':>6} {'us/event':>9}")
    for row in rows:
        print(
            f"{row.streams:>8} {row.lost_events:>6} {row.ended:>6} {row.kb_each:>8} "
            f"{row.cpu_percent:>6} {row.cpu_us_per_event:>9}"
        )
    if idle:
        print(
            f"{idle.clients} idle clients: {idle.kb_each} KB each, {idle.cpu_percent} % CPU; "
            f"answered {idle.answered_before} before, {idle.answered_after} after"
        )
    for goal, met in goals.items():
        print(f"goal, {goal}: {'not judged' if met is None else 'met' if met else 'missed'}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--streams", default="250,500,1000,2000", help="how many at a time; 0: none")
    parser.add_argument("--events", type=int, default=EVENTS, help="of each stream, two a second")
    parser.add_argument("--idle", type=int, default=10_000, help="idle clients; 0: none")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/")
    options = parser.parse_args()
    sizes = [int(size) for size in options.streams.split(",") if int(size)]
    limit, needed = raise_open_files(), max([*(2 * size for size in sizes), options.idle]) + 500
    if limit is not None and limit < needed:
        print(f"{needed} open files are needed, the limit is {limit}; see ulimit -Hn", file=sys.stderr)
        return 2
    try:
        with started() as run:
            rows, idle = asyncio.run(measure(run, sizes, options.idle, options.events))
    except UnavailableError as error:
        print(f"no sidecar: {error}", file=sys.stderr)
        return 2
    goals = summary(rows, idle)
    document = {
        "items": [asdict(row) for row in rows],
        "idle": asdict(idle) if idle else None,
        "goals": goals,
    }
    if options.json:
        print(json.dumps({"schema": "swarmplane.bench.streams/v1", "machine": report.machine(), **document}))
    else:
        print(interpreter_here())
        show(rows, idle, goals)
    if options.write:
        report.write("streams", document)
    return int(options.check and False in goals.values())


if __name__ == "__main__":
    sys.exit(main())
