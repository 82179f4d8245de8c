from __future__ import annotations

import json

import click
import pytest

from cli.durations import Duration
from cli.failures import exit_status, report
from cli.invocation import Invocation
from cli.output import ago, emit, emit_event, emit_list, table
from swarmplane.errors import (
    Code,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    SwarmError,
    UnavailableError,
)


def _inside(as_json: bool) -> click.Context:
    return click.Context(click.Command("test"), obj=Invocation(as_json=as_json))


def test_tables_are_aligned() -> None:
    rows = [
        {"name": "a", "slots": 4, "models": ["x", "y"], "ready": True},
        {"name": "bbbb", "slots": 12, "models": [], "ready": False, "hidden": 1},
    ]
    assert table(rows, ("name", "slots", "models", "ready")).splitlines() == [
        "NAME  SLOTS  MODELS  READY",
        "a         4  x, y    yes",
        "bbbb     12  -       no",
    ]


def test_lists_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"name": "a", "id": "1"}]
    with _inside(as_json=False):
        emit_list("nodes", items, ("name",))
        emit_list("nodes", [], ("name",), none="no nodes")
    shown = capsys.readouterr()
    assert shown.out == "NAME\na\n"
    assert shown.err == "no nodes\n"
    with _inside(as_json=True):
        emit_list("nodes", items, ("name",), more={"version": "1.2"})
        emit_list("nodes", [], ("name",), none="no nodes")
    shown = capsys.readouterr()
    assert shown.err == ""
    first, second = shown.out.strip().split("\n}\n{")
    assert json.loads(first + "}") == {"schema": "swarmctl.nodes/v1", "version": "1.2", "items": items}
    assert json.loads("{" + second) == {"schema": "swarmctl.nodes/v1", "items": []}


def test_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    with _inside(as_json=True):
        emit("node", {"name": "ä"}, "text")
    assert json.loads(capsys.readouterr().out) == {"schema": "swarmctl.node/v1", "name": "ä"}
    with _inside(as_json=False):
        emit("node", {"name": "a"}, "text")
    assert capsys.readouterr().out == "text\n"


def test_events_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with _inside(as_json=True):
        emit_event("change", {"a": 1}, "one")
        emit_event("change", {"a": 2}, "two")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["a"] for line in lines] == [1, 2]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.UNAVAILABLE, 75),
        (Code.CONFLICT, 75),
        (Code.SATURATED, 75),
        (Code.NOT_FOUND, 1),
        (Code.FORBIDDEN, 1),
        (Code.UNAUTHENTICATED, 1),
        (Code.FAILED_PRECONDITION, 1),
        (Code.INVALID_REQUEST, 2),
        (Code.INTERNAL, 1),
    ],
)
def test_exit_statuses(code: Code, status: int) -> None:
    assert exit_status(code) == status


def test_failures_are_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(NotFoundError("there is no node x")) == 1
    assert capsys.readouterr().err == "error: there is no node x\n"
    assert (
        report(ExceptionGroup("", [ExceptionGroup("", [UnavailableError("later")]), ConflictError("c")]))
        == 75
    )
    assert capsys.readouterr().err == "error: later\nerror: c\n"
    assert report(InvalidRequestError("x"), verbose=True) == 2
    assert "InvalidRequestError" in capsys.readouterr().err


def test_forbidden_says_what_would_help(capsys: pytest.CaptureFixture[str]) -> None:
    report(ForbiddenError("you may not"))
    assert "swarmctl token create --role operator" in capsys.readouterr().err
    report(ForbiddenError("you may not; swarmctl token create --role admin"))
    assert "--role operator" not in capsys.readouterr().err


def test_a_defect_is_not_dressed_up() -> None:
    with pytest.raises(ExceptionGroup):
        report(ExceptionGroup("", [SwarmError("ours"), ValueError("not ours")]))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("5m", 300), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5_400)],
)
def test_durations(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "x", "-5", "5 m", "1.5h", "5y"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59, "59s"), (60, "1m"), (7_300, "2h"), (200_000, "2d")]
)
def test_ago(seconds: float, text: str) -> None:
    assert ago(seconds) == text
