from __future__ import annotations

import asyncio
import json
from typing import Any

from structlog.testing import capture_logs

from sidecar.telemetry.figures import Figures
from sidecar.telemetry.outlet import Outlet
from sidecar.telemetry.record import Record
from sidecar.telemetry.ring import Ring
from sidecar.telemetry.usage import Usage
from sidecar.telemetry.worker import SLICE_S, Worker
from swarmplane.exposition import render
from tests.fakes.records import fill


class Ticking:
    """A clock that moves a little with every look."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


class Faulty(Figures):
    def add(self, record: Record, usage: Usage) -> None:
        if record.request_id == b"bad":
            raise ValueError("a fault of ours")
        super().add(record, usage)


def filled(count: int, capacity: int = 256, **changes: Any) -> Ring:
    ring = Ring(capacity)
    for _ in range(count):
        record = ring.claim()
        assert record is not None
        fill(record, **changes)
    return ring


def requests(figures: Figures) -> int:
    lines = render(figures.families({})).splitlines()
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("swarmplane_requests_total{"))


def test_a_slice_ends_when_its_time_is_over() -> None:
    ring, figures = filled(100), Figures()
    worker = Worker(ring, figures, monotonic=Ticking(SLICE_S * 0.6))
    assert worker.work() == 16
    assert len(ring) == 84
    assert worker.work(3) == 3


async def test_between_slices_the_loop_is_free() -> None:
    ring, figures = filled(100), Figures()
    worker = Worker(ring, figures, monotonic=Ticking(SLICE_S))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while len(ring):
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(others())
        group.create_task(worker.catch_up())
    assert turns >= 10
    assert requests(figures) == 100


async def test_catching_up_ends_though_requests_go_on() -> None:
    ring, figures = filled(50), Figures()
    worker = Worker(ring, figures, monotonic=Ticking(SLICE_S))

    async def client() -> None:
        while True:
            record = ring.claim()
            if record is not None:
                fill(record)
            await asyncio.sleep(0)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(client())
        await worker.catch_up()
        task.cancel()
    assert requests(figures) >= 50


async def test_what_ended_before_the_stop_is_told() -> None:
    ring, figures = filled(0), Figures()
    worker = Worker(ring, figures)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        await asyncio.sleep(0)
        for _ in range(200):
            record = ring.claim()
            assert record is not None
            fill(record)
        task.cancel()
    assert requests(figures) == 200
    assert len(ring) == 0


async def test_a_half_full_ring_is_emptied_before_the_time() -> None:
    worker: Worker | None = None
    ring = Ring(8, lambda: worker.hurry() if worker is not None else None)
    figures = Figures()
    worker = Worker(ring, figures)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        await asyncio.sleep(0)
        for _ in range(5):
            record = ring.claim()
            assert record is not None
            fill(record)
        while len(ring):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        task.cancel()
    assert requests(figures) == 5


def test_a_fault_of_ours_costs_one_record() -> None:
    ring, figures = filled(1, request_id=b"bad"), Faulty()
    for name in (b"good", b"bad"):
        record = ring.claim()
        assert record is not None
        fill(record, request_id=name)
    worker = Worker(ring, figures)
    with capture_logs() as logs:
        assert worker.work() == 3
    assert requests(figures) == 1
    assert worker.faults == 2
    assert [entry["event"] for entry in logs] == ["telemetry.record_failed"]


def test_lines_are_written_for_every_record() -> None:
    texts: list[bytes] = []
    lines: Outlet[bytes] = Outlet("lines", texts.extend, most=5, batch=1, delay_s=1.0)
    ring = filled(3)
    worker = Worker(ring, Figures(), lines=lines)
    worker.work()
    for _ in range(4):
        record = ring.claim()
        assert record is not None
        fill(record, request_id=b"later")
    worker.work()
    assert lines.dropped == 2
    lines.start()
    lines.close(20.0)
    assert [text.count(b"\n") for text in texts] == [3, 2]
    ids = [json.loads(line)["request_id"] for text in texts for line in text.splitlines()]
    assert ids == ["req-1"] * 3 + ["later"] * 2


def test_the_pace_of_streamed_answers_is_told() -> None:
    """Ten more tokens in the second after the first byte. Kills: whole time, all tokens, short answers."""
    told: list[tuple[str, str, float]] = []
    for changes in (
        {},
        {"streamed": False},
        {"outcome": "cancelled"},
        {"first_byte_s": 102.0},
        {"tail": b'data: {"usage":{"prompt_tokens":12,"completion_tokens":7}}\n\n'},
        {"tail": b""},
    ):
        worker = Worker(filled(1, **changes), Figures())
        worker.on_pace = lambda model, endpoint, pace: told.append((model, endpoint, pace))
        worker.work()
    assert told == [("tiny", "desk/srv/tiny", 10.0)]


def test_how_much_of_a_prompt_was_cached_is_told() -> None:
    """Half of its tokens is half of the blocks that its bytes make. Kills: tokens taken for blocks."""
    told: list[tuple[str, str, int, float]] = []
    half = b'{"usage":{"prompt_tokens":3000,"prompt_tokens_details":{"cached_tokens":1500}}}'
    for changes in (
        {"tail": half},
        {"tail": b'{"usage":{"prompt_tokens":3000,"prompt_tokens_details":{"cached_tokens":9000}}}'},
        {"tail": b'{"usage":{"prompt_tokens":3000}}'},
        {"tail": b'{"usage":{"completion_tokens":3}}'},
        {"tail": half, "cached": 0},
        {"tail": b""},
    ):
        given: dict[str, Any] = {"cached": 3, "prompt_tokens": 2048, **changes}
        worker = Worker(filled(1, **given), Figures())
        worker.on_cached = lambda *words: told.append(words)
        worker.work()
    assert told == [("tiny", "desk/srv/tiny", 3, 4.0), ("tiny", "desk/srv/tiny", 3, 8.0)]
