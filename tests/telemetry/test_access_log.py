from __future__ import annotations

import contextlib
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.telemetry.access_log import LineFile, Lines, text_of
from sidecar.telemetry.record import Record
from sidecar.telemetry.trace import Sampling, Tracing
from sidecar.telemetry.usage import NOTHING, Usage
from tests.fakes.records import fill, rejected

OFFSET_S = 1_700_000_000.25 - 100.0


def line(usage: Usage = NOTHING, **changes: Any) -> dict[str, Any]:
    text = text_of([Lines().of(fill(Record(), **changes), usage, OFFSET_S)])
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 1
    document: dict[str, Any] = json.loads(text)
    return document


def test_a_line_is_exactly_this() -> None:
    assert line(Usage(12, 11, 4), queue_s=0.0125, key="k1", priority="bulk", retries=1, attempts=2) == {
        "time": "2023-11-14T22:13:20.250Z",
        "request_id": "req-1",
        "trace_id": None,
        "method": "POST",
        "path": "/v1/chat/completions",
        "dialect": "openai",
        "status": 200,
        "code": None,
        "outcome": "completed",
        "flags": "-",
        "asked": "Tiny:latest",
        "model": "tiny",
        "node": "desk",
        "backend": "srv",
        "origin": None,
        "attempts": 2,
        "retries": 1,
        "moves": 0,
        "replays": 0,
        "hedges": 0,
        "streamed": True,
        "bytes_in": 321,
        "bytes_out": 4321,
        "duration_ms": 2000.0,
        "route_ms": 1.0,
        "queue_ms": 12.5,
        "first_byte_ms": 1000.0,
        "input_tokens": 12,
        "output_tokens": 11,
        "client": "127.0.0.1",
        "key": "k1",
        "priority": "bulk",
        "stale": False,
        "route_version": "1.7",
    }


def test_a_line_is_written_like_this() -> None:
    """Kills: a member written twice or out of its order, times cut off rather than rounded, long floats."""
    record = fill(Record(), ended_s=102.0123456, planned_s=100.0003, queue_s=0.0000006, request_id=b'a"b')
    first, second = text_of([Lines().of(record, Usage(12, None), OFFSET_S)] * 2).splitlines()
    assert first == second
    assert first.decode() == (
        '{"time":"2023-11-14T22:13:20.250Z","request_id":"a\\"b","trace_id":null,"method":"POST",'
        '"path":"/v1/chat/completions","dialect":"openai","status":200,"code":null,"outcome":"completed",'
        '"flags":"-","asked":"Tiny:latest","model":"tiny","node":"desk","backend":"srv","origin":null,'
        '"attempts":1,"retries":0,"moves":0,"replays":0,"hedges":0,"streamed":true,"bytes_in":321,'
        '"bytes_out":4321,"duration_ms":2012.346,"route_ms":0.3,"queue_ms":0.001,"first_byte_ms":1000.0,'
        '"input_tokens":12,"output_tokens":null,"client":"127.0.0.1","key":null,"priority":"default",'
        '"stale":false,"route_version":"1.7"}'
    )


def test_a_refusal_says_what_is_not_known() -> None:
    found = line(**rejected("model_not_found", 404, model="", attempts=0, planned_s=0.0))
    assert (found["code"], found["flags"], found["status"]) == ("model_not_found", "NR", 404)
    nothing = ("model", "node", "route_ms", "first_byte_ms", "input_tokens", "output_tokens", "trace_id")
    assert [found[name] for name in nothing] == [None] * len(nothing)


def test_a_sampled_request_names_its_trace() -> None:
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    trace = Tracing(Sampling(), lambda bits: bits).begin(parent, b"", hop=False)
    assert line(trace=trace)["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_the_answer_is_never_in_a_line() -> None:
    text = text_of([Lines().of(fill(Record(), tail=b"SECRET", opening=b"SECRET"), NOTHING, OFFSET_S)])
    assert b"SECRET" not in text


TWO: dict[str, tuple[Any, Any]] = {
    "path": (b"/v1/messages", b"/api/chat"),
    "asked": ("tiny", "big"),
    "method": (b"POST", b"GET"),
    "status": (200, 503),
    "code": ("", "no_replica"),
    "outcome": ("completed", "rejected"),
    "failure": ("", "stalled"),
    "model": ("tiny", ""),
    "node": ("desk", "bee"),
    "backend": ("srv", ""),
    "origin": ("", "bee"),
    "attempts": (1, 0),
    "retries": (0, 1),
    "moves": (0, 1),
    "replays": (0, 1),
    "hedges": (0, 1),
    "streamed": (True, False),
    "client": ("127.0.0.1", "127.0.0.2"),
    "key": ("", "k1"),
    "priority": ("", "bulk"),
    "stale": (False, True),
    "route_version": ("1.7", "1.8"),
}


@pytest.mark.parametrize("other", TWO)
@settings(max_examples=8)
@given(st.data())
def test_what_is_kept_never_shows_in_another_line(other: str, data: st.DataObject) -> None:
    """Two requests that differ in one thing. Kills: any member of the key left out."""
    values = {name: data.draw(st.sampled_from(two)) for name, two in TWO.items()}
    changed = {**values, other: TWO[other][values[other] == TWO[other][0]]}
    lines = Lines()
    for one in (values, changed):
        record = fill(Record(), **one)
        warm, cold = (made.of(record, NOTHING, OFFSET_S) for made in (lines, Lines()))
        assert text_of([warm]) == text_of([cold])


@given(st.text(max_size=400), st.binary(max_size=400), st.floats(0, 4e9))
def test_whatever_a_client_says_stays_in_its_place(asked: str, path: bytes, started_s: float) -> None:
    record = fill(Record(), asked=asked.encode("utf-8", "replace").decode(), path=path, request_id=path)
    record.started_s = started_s
    text = text_of([Lines().of(record, NOTHING, 0.0)])
    assert text.count(b"\n") == 1
    found = json.loads(text)
    assert len(found["asked"] or "") <= 256
    assert found["request_id"] == path.decode("latin-1")


def test_a_file_is_turned_over_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.log"
    file = LineFile(path, max_bytes=10, files=3)
    for number in range(8):
        file.write([b"%d23456\n" % number])
    file.close()
    kept = {found.name: found.read_bytes() for found in path.parent.iterdir()}
    assert kept == {"access.log": b"723456\n", "access.log.1": b"623456\n", "access.log.2": b"523456\n"}


def test_texts_of_several_lines_are_written_together(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a", max_bytes=12, files=2)
    file.write([b"12\n34\n", b"", b"56\n"])
    file.write([b"78\n", b"9\n"])
    file.close()
    kept = {found.name: found.read_bytes() for found in tmp_path.iterdir()}
    assert kept == {"a": b"78\n9\n", "a.1": b"12\n34\n56\n"}


def test_one_file_is_begun_again(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a", max_bytes=10, files=1)
    file.write([b"12345678\n"])
    file.write([b"abc\n"])
    file.close()
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a", b"abc\n")]


def test_a_file_goes_on_where_the_last_process_ended(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for text in (b"1\n", b"2\n"):
        file = LineFile(path, max_bytes=100, files=2)
        file.write([text])
        file.close()
    assert path.read_bytes() == b"1\n2\n"


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be moved there")
def test_a_file_that_logrotate_moved_is_made_anew_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = LineFile(path, max_bytes=100, files=2)
    file.write([b"1\n"])
    path.rename(tmp_path / "moved")
    file.write([b"2\n"])
    path.unlink()
    file.write([b"3\n"])
    file.close()
    assert (tmp_path / "moved").read_bytes() == b"1\n"
    assert path.read_bytes() == b"3\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@contextlib.contextmanager
def room_in_files(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size``, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="a limit of files needs a Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_that_a_full_disk_takes_in_part_leave_nothing_behind(tmp_path: Path) -> None:
    """Kills: a good line glued to half of one; old files turned over for lines that were never written."""
    path = tmp_path / "a"
    file = LineFile(path, max_bytes=40, files=2)
    file.write([b"first\n"])
    for _ in range(10):
        with room_in_files(15), pytest.raises(OSError, match="large"):
            file.write([b"second\n", b"third\n"])
        assert path.read_bytes() == b"first\n"
    file.write([b"fourth\n"])
    file.close()
    assert path.read_bytes() == b"first\nfourth\n"
    assert not (tmp_path / "a.1").exists()


def test_a_place_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        LineFile(tmp_path / "file" / "access.log", max_bytes=10, files=2).write([b"x\n"])
