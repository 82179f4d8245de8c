"""Three dialects of clients onto two of backends: the same question gets the same answer everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.clients.conftest import CHAT, NATIVE, SEER, World
from tests.clients.pictures import PNG, SEEN
from tests.clients.tongues import TONGUES, Heard, Line, Question, Turn

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

WEATHER = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
    "get_time": {"type": "object", "properties": {"zone": {"type": "string", "enum": ["CET", "UTC"]}}},
}
CALLS = [("call_1", "get_weather", {"city": "Paris"}), ("call_2", "get_time", {"zone": "CET"})]
PARIS, ROME = {"city": "Paris", "days": 3}, {"city": "Rome", "days": 3}
CASES = [
    pytest.param(
        Question([Turn("user", "good day")]),
        Heard("You said: good day", [], "stop", (2, 4)),
        id="words",
    ),
    pytest.param(
        Question([Turn("user", "one two three")], system="Be kind.", stop=[" three"]),
        Heard("You said: one two", [], "stop", (5, 4)),
        id="system-and-stop",
    ),
    pytest.param(
        Question([Turn("user", "one two three")], limit=3),
        Heard("You said: one", [], "length", (3, 3)),
        id="limit",
    ),
    pytest.param(
        Question([Turn("user", "a"), Turn("assistant", "b"), Turn("user", "grüß dich, 世界 🦊")]),
        Heard("You said: grüß dich, 世界 🦊", [], "stop", (6, 6)),
        id="several-turns-and-scripts",
    ),
    pytest.param(
        Question([Turn("user", "weather in Paris")], tools=WEATHER),
        Heard("", [("get_weather", PARIS)], "calls", (3, 3)),
        id="one-call",
    ),
    pytest.param(
        Question([Turn("user", "weather in Paris and Rome")], tools=WEATHER),
        Heard("", [("get_weather", PARIS), ("get_weather", ROME)], "calls", (5, 6)),
        id="parallel-calls",
    ),
    pytest.param(
        Question([Turn("user", "please get_time")], tools=WEATHER),
        Heard("", [("get_time", {"zone": "CET"})], "calls", (2, 2)),
        id="another-tool",
    ),
    pytest.param(
        Question(
            [
                Turn("user", "weather in Paris, and the time"),
                Turn("assistant", calls=CALLS),
                Turn("tool", "dry", result_of=("call_1", "get_weather")),
                Turn("tool", "late", result_of=("call_2", "get_time")),
            ],
            tools=WEATHER,
        ),
        Heard("The tools say: get_weather=dry; get_time=late", [], "stop", (8, 5)),
        id="results-of-tools",
    ),
    pytest.param(
        Question([Turn("user", "what is it?", images=[PNG])]),
        Heard(SEEN, [], "stop", (3, 5)),
        id="picture",
    ),
]


@pytest.fixture
def line(world: World) -> Iterator[Line]:
    one = Line(world.entry.ports["listen"])
    yield one
    one.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("backend", ["vllm", "ollama"])
@pytest.mark.parametrize("dialect", TONGUES)
@pytest.mark.parametrize(("question", "expected"), CASES)
def test_every_dialect_onto_every_backend(
    line: Line, question: Question, expected: Heard, dialect: str, backend: str, stream: bool
) -> None:
    tongue = TONGUES[dialect]
    model = CHAT if backend == "vllm" else SEER if question.turns[0].images else NATIVE
    raw = line.ask(tongue.path, json.dumps(tongue.body(model, question, stream=stream)).encode())
    assert raw.status == 200, raw.body
    assert raw.headers["x-swarm-node"] == "b"
    assert json.dumps(model).encode() in raw.body, "the answer bears the name asked for"
    assert tongue.heard(raw, stream=stream) == expected
