"""Whole answers with status 200 that are none: they are failures, also where nothing is translated."""

from __future__ import annotations

import json

import pytest

from sidecar.dataplane.frames import is_answer
from tests.fakes.backend import Behaviour, running_backend
from tests.fakes.dataplane import CHAT, Served, client, running_node


@pytest.mark.parametrize(
    ("path", "body", "sound"),
    [
        pytest.param(b"/v1/chat/completions", b'{"id": 1}', True, id="an-object"),
        pytest.param(b"/v1/chat/completions", b' \n{"id": 1}\r\n   ', True, id="blanks-around-it"),
        pytest.param(b"/v1/chat/completions", b'{"id": "the error": {', False, id="cut-off"),
        pytest.param(b"/api/chat", b"", False, id="nothing"),
        pytest.param(b"/api/chat", b"   ", False, id="blanks"),
        pytest.param(b"/api/chat", b"<html>}", False, id="a-page"),
        pytest.param(b"/api/chat", b'{"error":"out of memory"}', False, id="a-failure"),
        pytest.param(b"/v1/responses", b'{"error": null, "id": 1}', True, id="no-failure"),
        pytest.param(b"/v1/embeddings", b'{"error": {"message": "x"}}', False, id="a-failure-of-openais"),
        pytest.param(b"/api/copy", b"", True, id="an-act-may-answer-nothing"),
        pytest.param(b"/v1/audio/transcriptions", b"words", True, id="words"),
    ],
)
def test_both_ends_are_looked_at(path: bytes, body: bytes, sound: bool) -> None:
    assert is_answer(path, body) is sound


@pytest.mark.parametrize("body", ['{"error": "out of memory"}', "{not json", "[]"])
async def test_it_is_told_as_a_failure_of_the_backend(body: str) -> None:
    async with (
        running_backend(default=Behaviour(body=body)) as backend,
        running_node(served={"one": Served(backend)}) as node,
        client(node) as one,
    ):
        answer = await one.ask(CHAT)
        assert answer.status == 502
        error = json.loads(answer.body)["error"]
        assert error["code"] == "upstream_failed"
        assert "memory" not in error["message"]
        backend.default = Behaviour()
        assert (await one.ask(CHAT)).status == 200
