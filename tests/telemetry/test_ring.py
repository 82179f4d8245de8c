from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.record import Record
from sidecar.telemetry.ring import Ring
from tests.fakes.records import fill


def test_begin_forgets_everything_of_the_request_before() -> None:
    used, fresh = fill(Record()), Record()
    used.trace = None
    for record in (used, fresh):
        record.begin(b"GET", b"/", b"id", "rejected", 1.0, 2.0)
        record.unsent(404, 3, 4)
    assert {name: getattr(used, name) for name in Record.__slots__} == {
        name: getattr(fresh, name) for name in Record.__slots__
    }


def test_a_full_ring_drops_and_counts_and_goes_on() -> None:
    ring = Ring(4)
    rows = [ring.claim() for _ in range(4)]
    assert None not in rows
    assert ring.claim() is None
    assert ring.claim() is None
    assert ring.dropped == 2
    ring.free(ring.oldest(1))
    assert ring.claim() is rows[0]
    assert ring.dropped == 2


def test_rows_are_made_once_and_hold_nothing_when_free() -> None:
    ring = Ring(2)
    record = ring.claim()
    assert record is not None
    fill(record)
    oldest = ring.oldest(9)
    assert oldest == (record,)
    ring.free(oldest)
    assert (record.tail, record.opening, record.trace) == (b"", b"", None)
    assert ring.oldest(9) == ()
    assert len({id(row) for row in (ring.claim(), ring.claim())}) == 2


def test_the_worker_is_told_at_half() -> None:
    told: list[int] = []
    ring = Ring(8, lambda: told.append(len(ring)))
    for _ in range(8):
        ring.claim()
    assert told == [5]
    ring.free(ring.oldest(8))
    assert len(ring) == 0
    for _ in range(5):
        ring.claim()
    assert told == [5, 5]


@given(st.integers(1, 40), st.lists(st.integers(0, 3), max_size=200))
def test_it_is_a_bounded_queue(capacity: int, acts: list[int]) -> None:
    """Claims (0), and so many of the oldest dealt with. Kills: rows past the end, more freed than given."""
    ring, model, dropped = Ring(capacity), deque[bytes](), 0
    assert capacity <= ring.capacity < 2 * max(capacity, 2)
    for number, most in enumerate(acts):
        name = b"%d" % number
        if not most:
            record = ring.claim()
            assert (record is None) == (len(model) == ring.capacity)
            if record is None:
                dropped += 1
            else:
                record.begin(b"POST", b"/", name, "completed", 0.0, 0.0)
                model.append(name)
        elif model:
            oldest = ring.oldest(most)
            assert 1 <= len(oldest) <= most
            assert [record.request_id for record in oldest] == [model.popleft() for _ in oldest]
            ring.free(oldest)
        assert (len(ring), ring.dropped) == (len(model), dropped)
