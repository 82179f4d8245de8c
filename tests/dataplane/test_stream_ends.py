"""A stream is whole when its dialect says so, whatever its framing says (PROTOCOL section 5)."""

from __future__ import annotations

import json

import pytest

from tests.fakes.backend import Behaviour, FakeBackend
from tests.fakes.dataplane import STREAM, Client, Node, Served, client, running_node

EVENT = 'data: {"id": "c1", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}\n\n'
LAST = 'data: {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = 'data: {"id": "c1", "choices": [], "usage": {"total_tokens": 3}}\n\n'


def chunked(*events: str) -> str:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + "".join(f"{len(event):x}\r\n{event}\r\n" for event in events) + "0\r\n\r\n"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_without_an_end_marker_is_truncated(http: Client, path: str) -> None:
    answer = await http.ask(STREAM, path, x_fake="done=0")
    assert answer.whole
    assert len(answer.events) == 9
    assert json.loads(answer.events[-1])["error"]["code"] == "upstream_failed"
    assert await http.closed() == b""


@pytest.mark.parametrize(
    "events",
    [
        (EVENT, LAST),
        (EVENT, LAST.replace(": ", ":")),
        (EVENT, LAST, USAGE),
        (EVENT, LAST, USAGE, ": ping\n\n", ": ping\n\n"),
        (EVENT, "data: [DONE]\n", "\n"),
        (EVENT, "data: [DO", "NE]"),
        (EVENT, 'data: {"error": {"message": "out of memory"}}\n\n'),
    ],
)
async def test_what_counts_as_an_end(http: Client, backend: FakeBackend, events: tuple[str, ...]) -> None:
    backend.script.append(Behaviour(raw=chunked(*events)))
    answer = await http.ask(STREAM)
    assert answer.whole
    assert answer.body.decode() == "".join(events)


LONG = EVENT.replace('"a"', f'"{"a" * 5000}"')


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ((EVENT, EVENT, LAST), True),
        ((EVENT, EVENT, LAST, USAGE, *[": ping\n\n"] * 9), True),
        ((EVENT, LONG.replace('"finish_reason": null', '"finish_reason": "stop"') + LONG), True),
        ((EVENT, EVENT, LAST, USAGE, *[": ping\n\n"] * 40), True),
        ((EVENT, EVENT, LAST, LONG), True),
        ((EVENT, EVENT, LAST, USAGE, ": ping\n\n", LONG, LONG), True),
        ((EVENT, *[LAST.replace("stop", "length")] * 2, "data: [DONE]\n\n"), True),
        ((EVENT, EVENT, 'data: {"error": {"message": "out of memory"}}\n\n'), True),
        ((EVENT, EVENT, EVENT), False),
        ((EVENT, LONG, LONG), False),
    ],
)
async def test_an_end_is_known_of_events_that_come_one_by_one(
    http: Client, backend: FakeBackend, events: tuple[str, ...], *, ends: bool
) -> None:
    """They pass unread. Kills: pieces not kept, all but the last two forgotten, no look at long ones."""
    raw = chunked(*events).replace("\n\n\r\n", "\n\n\r\n\x1e")
    backend.script.append(Behaviour(raw=raw, interval_s=0.005))
    answer = await http.ask(STREAM)
    assert answer.whole
    passed = "".join(events)
    assert answer.body.decode().startswith(passed)
    assert (answer.body.decode() == passed) is ends


async def test_the_end_of_an_answer_that_was_given_up_is_none_of_the_next(backend: FakeBackend) -> None:
    """Kills: pieces kept of an attempt that failed before it began."""
    lost = chunked(': finish_reason": "stop" [DONE]\n\n').removesuffix("0\r\n\r\n")
    backend.script.append(Behaviour(raw=lost, close_at=len(lost)))
    raw = chunked(EVENT, EVENT, EVENT).replace("\n\n\r\n", "\n\n\r\n\x1e")
    backend.default = Behaviour(raw=raw, interval_s=0.005)
    served = {"one": Served(backend), "two": Served(backend)}
    async with running_node(served=served) as node, client(node) as http:
        answer = await http.ask(STREAM)
    assert "error" in json.loads(answer.events[-1])


async def test_the_text_of_an_answer_is_no_end(http: Client, backend: FakeBackend) -> None:
    event = EVENT.replace('"a"', json.dumps('{"finish_reason": "stop"}').replace("\\", "\\\\"))
    backend.script.append(Behaviour(raw=chunked(event)))
    answer = await http.ask(STREAM)
    assert "error" in json.loads(answer.events[-1])


async def test_other_dialects_are_relayed_as_they_are(http: Client) -> None:
    answer = await http.ask(STREAM, "/v1/audio/speech", x_fake="done=0")
    assert len(answer.events) == 8


async def test_an_empty_stream_is_tried_elsewhere(node: Node, backend: FakeBackend) -> None:
    backend.script.append(Behaviour(raw=chunked()))
    node.own({"one": Served(backend), "two": Served(backend)})
    async with client(node) as http:
        answer = await http.ask(STREAM)
        assert answer.headers["x-swarm-attempts"] == "2"
        assert answer.events[-1] == "[DONE]"


async def test_an_owners_own_error_event_stays_the_only_one(pair: tuple[Node, Node]) -> None:
    async with client(pair[0]) as http:
        answer = await http.ask(STREAM, x_fake="done=0")
        assert sum('"error"' in event for event in answer.events) == 1


async def test_a_lone_backend_that_ends_early_is_an_error(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        backend.default = Behaviour(raw=chunked())
        assert (await http.ask(STREAM)).status == 502
