from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from structlog.testing import capture_logs

from sidecar.telemetry.outlet import Outlet, UndeliveredError

PATIENCE_S = 20.0


def outlet(deliver: Callable[[Sequence[int]], None], **changes: Any) -> Outlet[int]:
    return Outlet("test", deliver, **{"most": 8, "batch": 4, "delay_s": 0.01, **changes})


def test_everything_comes_out_in_order_and_in_batches() -> None:
    batches: list[list[int]] = []
    out = outlet(lambda batch: batches.append(list(batch)), most=100)
    out.start()
    for number in range(10):
        out.put(number)
    out.close(PATIENCE_S)
    assert [number for batch in batches for number in batch] == list(range(10))
    assert max(map(len, batches)) <= 4
    assert out.dropped == 0


def test_a_shut_outlet_drops_and_counts_and_never_waits() -> None:
    opened, entered = threading.Event(), threading.Event()
    taken: list[int] = []

    def deliver(batch: Sequence[int]) -> None:
        entered.set()
        opened.wait(PATIENCE_S)
        taken.extend(batch)

    out = outlet(deliver)
    out.start()
    for number in range(4):
        out.put(number)
    assert entered.wait(PATIENCE_S)
    for number in range(4, 100):
        out.put(number)
    assert out.dropped == 96 - 8
    opened.set()
    out.close(PATIENCE_S)
    assert taken == list(range(12))
    out.put(1)
    assert out.dropped == 96 - 8 + 1


def test_an_item_counts_as_many_pieces_as_it_stands_for() -> None:
    """Kills: items counted instead of pieces: in the room, in a batch, lost in delivery, refused."""
    opened, entered, failed = threading.Event(), threading.Event(), threading.Event()
    batches: list[list[int]] = []

    def deliver(batch: Sequence[int]) -> None:
        batches.append(list(batch))
        entered.set()
        opened.wait(PATIENCE_S)
        if len(batches) == 1:
            raise UndeliveredError("down")
        failed.set()

    out = outlet(deliver)
    out.start()
    assert out.room == 8
    out.put(1, 5)
    assert entered.wait(PATIENCE_S)
    assert out.room == 8
    out.put(2, 3)
    out.put(3, 2)
    assert out.room == 3
    out.put(4, 4)
    assert (out.room, out.dropped) == (3, 4)
    out.put(5, 3)
    assert out.room == 0
    out.refuse(10)
    assert out.dropped == 14
    opened.set()
    assert failed.wait(PATIENCE_S)
    out.close(PATIENCE_S)
    assert batches == [[1], [2, 3], [5]]
    assert (out.room, out.dropped) == (0, 19)


def test_closing_waits_no_longer_than_it_is_told() -> None:
    opened, entered, abandoned = threading.Event(), threading.Event(), threading.Event()

    def deliver(batch: Sequence[int]) -> None:
        entered.set()
        opened.wait(PATIENCE_S)
        raise UndeliveredError(f"{len(batch)} items")

    out = outlet(deliver, abandon=abandoned.set)
    out.start()
    for number in range(8):
        out.put(number)
    assert entered.wait(PATIENCE_S)
    out.close(0.05)
    assert abandoned.is_set()
    assert out.dropped == 4
    opened.set()


def test_one_that_was_never_started_closes_too() -> None:
    out = outlet(lambda _batch: None)
    out.put(1)
    out.close(PATIENCE_S)


def test_trouble_is_said_once_per_change() -> None:
    failing, done = True, threading.Semaphore(0)

    def deliver(batch: Sequence[int]) -> None:
        done.release()
        if failing:
            raise (OSError("no space"), UndeliveredError("down"), ValueError("fault"))[batch[0] % 3]

    out = outlet(deliver, batch=1, most=50)
    with capture_logs() as logs:
        out.start()
        for number in range(6):
            out.put(number)
        for _ in range(6):
            assert done.acquire(timeout=PATIENCE_S)
        failing = False
        for number in range(6, 9):
            out.put(number)
        out.close(PATIENCE_S)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("telemetry.delivery_failed", "warning"),
        ("telemetry.delivery_recovered", "info"),
    ]
    assert logs[0]["reason"] == "no space"
    assert logs[1]["dropped"] == 6
    assert out.dropped == 6
    assert not out.failing
