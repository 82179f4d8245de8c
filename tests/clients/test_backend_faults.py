"""What goes wrong at a backend, in every dialect onto every backend: never a success with partial text."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.clients.conftest import CHAT, NATIVE, World
from tests.clients.tongues import TONGUES, BrokenAnswerError, Line, Question, Raw, Tongue, Turn
from tests.e2e.hosts import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

QUESTION = Question([Turn("user", "count to 40")])
COMPLETE = " ".join(str(number) for number in range(1, 41))

REFUSED = [
    pytest.param("status=400", {400}, id="it-refuses-the-request"),
    pytest.param("status=413", {413}, id="it-finds-the-request-too-large"),
    pytest.param("status=500", {500, 502}, id="it-fails"),
    pytest.param("status=500; close=1", {500, 502}, id="it-fails-and-hangs-up"),
    pytest.param("close_at=0", {502}, id="it-hangs-up-without-a-word"),
    pytest.param("reset_at=40", {502}, id="it-resets-in-the-head"),
    pytest.param(
        "status=500; body=<html>500</html>; content_type=text/html", {500, 502}, id="it-shows-a-page"
    ),
]
UNREADABLE = [
    pytest.param("body={not json", id="no-json"),
    pytest.param('body={"error": "out of memory"}', id="an-error-within-a-200"),
    pytest.param("body=[]", id="a-list"),
    pytest.param("body=<html>500</html>", id="a-page"),
    pytest.param("extra_length=40; close=1", id="shorter-than-announced"),
]
BREAKING = [
    pytest.param("close_at=100", id="cut-in-the-head"),
    pytest.param("close_at=900; interval_s=0.005", id="cut-after-the-first-byte"),
    pytest.param("reset_at=900; interval_s=0.005", id="reset-after-the-first-byte"),
    pytest.param("stop_after=0", id="ended-before-the-first-event"),
    pytest.param("stop_after=4; interval_s=0.005", id="ended-without-a-mark"),
    pytest.param("fail_after=0", id="an-error-first"),
    pytest.param("fail_after=4; interval_s=0.005", id="an-error-after-some-words"),
    pytest.param("bad_chunk=1; interval_s=0.005", id="broken-framing"),
]
EVERYWHERE = [
    pytest.param(dialect, backend, id=f"{dialect}-{backend}")
    for dialect in TONGUES
    for backend in ("vllm", "ollama")
]


@pytest.fixture
def line(world: World) -> Iterator[Line]:
    one = Line(world.entry.ports["listen"])
    yield one
    one.close()


def ask(line: Line, tongue: Tongue, model: str, *, stream: bool) -> Raw:
    return line.ask(tongue.path, json.dumps(tongue.body(model, QUESTION, stream=stream)).encode())


def told(world: World, backend: str, fault: str) -> str:
    model = CHAT if backend == "vllm" else NATIVE
    world.server(model).order(default=fault)
    return model


def assert_well_afterwards(world: World, line: Line, tongue: Tongue, model: str) -> None:
    """What failed spoils nothing that follows, if the connection is still there."""
    world.server(model).order(default="")
    raw = ask(line, tongue, model, stream=False)
    assert raw.status == 200, raw.body
    assert tongue.heard(raw, stream=False).text == COMPLETE


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("dialect", "backend"), EVERYWHERE)
@pytest.mark.parametrize(("fault", "statuses"), REFUSED)
def test_no_answer(
    world: World, line: Line, fault: str, statuses: set[int], dialect: str, backend: str, stream: bool
) -> None:
    tongue, model = TONGUES[dialect], told(world, backend, fault)
    raw = ask(line, tongue, model, stream=stream)
    assert raw.status in statuses, raw.body
    assert raw.headers["content-type"].startswith("application/json")
    assert tongue.complaint(raw.body)
    assert_well_afterwards(world, line, tongue, model)


@pytest.mark.parametrize(
    ("status", "dialect", "stream"), [(429, "openai", True), (429, "ollama", False), (503, "anthropic", True)]
)
def test_no_room(world: World, line: Line, status: int, dialect: str, stream: bool) -> None:
    """The backend is left alone for a while after that, which the answer tells."""
    tongue, model = TONGUES[dialect], told(world, "ollama", f"status={status}; retry_after=1")
    raw = ask(line, tongue, model, stream=stream)
    assert raw.status in {429, 503}
    assert 1 <= int(raw.headers["retry-after"]) <= 60
    assert tongue.complaint(raw.body)
    world.server(model).order(default="")
    question = json.dumps(tongue.body(model, QUESTION, stream=False)).encode()
    eventually("it is asked again", lambda: line.ask(tongue.path, question).status == 200, within_s=15)


@pytest.mark.parametrize(("dialect", "backend"), EVERYWHERE)
@pytest.mark.parametrize("fault", UNREADABLE)
def test_a_whole_answer_that_is_none(
    world: World, line: Line, fault: str, dialect: str, backend: str
) -> None:
    tongue, model = TONGUES[dialect], told(world, backend, fault)
    raw = ask(line, tongue, model, stream=False)
    assert raw.status == 502
    assert tongue.complaint(raw.body)
    assert_well_afterwards(world, line, tongue, model)


@pytest.mark.parametrize(("dialect", "backend"), EVERYWHERE)
@pytest.mark.parametrize("fault", BREAKING)
def test_a_stream_that_breaks(world: World, line: Line, fault: str, dialect: str, backend: str) -> None:
    tongue, model = TONGUES[dialect], told(world, backend, fault)
    raw = ask(line, tongue, model, stream=True)
    if raw.status == 200:
        with pytest.raises(BrokenAnswerError):
            tongue.heard(raw, stream=True)
        assert raw.whole, "the error is said, then the body ends as HTTP has it"
        assert b'"error"' in raw.body
    else:
        assert raw.status == 502
        assert tongue.complaint(raw.body)
    assert_well_afterwards(world, line, tongue, model)


@pytest.mark.parametrize("dialect", TONGUES)
def test_a_stream_of_ollamas_without_its_last_line(world: World, line: Line, dialect: str) -> None:
    tongue, model = TONGUES[dialect], told(world, "ollama", "done=0")
    with pytest.raises(BrokenAnswerError):
        tongue.heard(ask(line, tongue, model, stream=True), stream=True)


@pytest.mark.parametrize("dialect", ["ollama", "anthropic"])
def test_a_finish_reason_is_end_enough(world: World, line: Line, dialect: str) -> None:
    """Not every server of OpenAI's API says ``[DONE]``; the whole text is there."""
    tongue, model = TONGUES[dialect], told(world, "vllm", "done=0")
    heard = tongue.heard(ask(line, tongue, model, stream=True), stream=True)
    assert (heard.text, heard.finish) == (COMPLETE, "stop")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("dialect", "backend"), EVERYWHERE)
def test_an_answer_that_counts_nothing(
    world: World, line: Line, dialect: str, backend: str, stream: bool
) -> None:
    tongue, model = TONGUES[dialect], told(world, backend, "usage=0")
    raw = ask(line, tongue, model, stream=stream)
    assert raw.status == 200
    heard = tongue.heard(raw, stream=stream)
    assert (heard.text, heard.finish) == (COMPLETE, "stop")
