"""What choosing knows of requests of every dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.context import Room
from sidecar.core.cost import Ask
from sidecar.dataplane.asking import read_ask
from sidecar.dataplane.peek import peek


def ask(room: Room | None = None, **members: Any) -> Ask:
    body = json.dumps({"model": "m1", **members}).encode()
    return read_ask("m1", peek(body), body, "", b"key", room)


@pytest.mark.parametrize(
    ("members", "most"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8, "max_tokens": 7}, 8),
        ({"options": {"num_predict": 9}}, 9),
        ({"options": {"num_predict": -1}}, 0),
        ({"options": {"num_predict": "9"}}, 0),
        ({"options": {"temperature": 1}}, 0),
        ({"options": None}, 0),
        ({"options": [1]}, 0),
        ({"options": {"num_predict": True}}, 0),
        ({"options": {"num_predict": 10**12}}, 0),
        ({}, 0),
    ],
)
def test_the_limit_of_an_answer_in_every_dialect(members: dict[str, Any], most: int) -> None:
    assert ask(messages=[], **members).max_tokens == most


def test_a_prompt_in_every_dialect() -> None:
    text = "word " * 400
    said = [{"role": "user", "content": text}]
    for members in (
        {"messages": said},
        {"prompt": text},
        {"input": [text]},
        {"system": text, "messages": []},
        {"system": [{"type": "text", "text": text}], "messages": []},
    ):
        assert 400 < ask(**members).prompt_tokens < 800
        assert ask(**members).blocks


def test_short_prompts_that_ask_the_same_are_one() -> None:
    """Kills: a limit left out of what is shared, the room's figures left out, a name shared with others."""
    said = [{"role": "user", "content": "Hello?"}]
    assert ask(messages=said) is ask(messages=said)
    assert ask(messages=said, max_tokens=7) is ask(messages=said, max_tokens=7)
    assert ask(messages=said, max_tokens=8) == Ask("m1", ask(messages=said).prompt_tokens, 8)
    assert ask(Room(12, 45), messages=said, max_tokens=7) == Ask("m1", 12, 45)
    assert ask(messages=said, max_tokens=7, user="a").session != ask(messages=said, max_tokens=7).session
    assert ask(messages=said, options={"num_predict": 9}).max_tokens == 9


def test_what_was_read_already_is_not_read_again() -> None:
    known = ask(Room(123, 45), messages=[{"role": "user", "content": "x" * 9000}], max_tokens=7)
    assert (known.prompt_tokens, known.max_tokens) == (123, 45)
    assert ask(Room(0, 45), input="x" * 9000).prompt_tokens > 1000


def test_sessions_that_clients_name() -> None:
    """Claude Code names its session within the user's id."""
    one = ask(messages=[], metadata={"user_id": "user_1_account__session_1"}).session
    two = ask(messages=[], metadata={"user_id": "user_1_account__session_2"}).session
    assert one
    assert two not in {one, b""}
    for odd in (
        {"user_id": 7},
        {"user_id": "x" * 2000},
        {"other": 1},
        {},
        None,
        "text",
        {"user_id": "x" * 9000},
    ):
        assert ask(messages=[], metadata=odd).session == b""
