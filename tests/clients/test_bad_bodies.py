"""Bodies that make no sense, in every dialect: an answer that says so, and the connection lives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients.conftest import CHAT, NATIVE, World
from tests.clients.pictures import PNG
from tests.clients.tongues import TONGUES, Line, Question, Tongue, Turn

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

MODELS = (CHAT, NATIVE)
GOOD = Question([Turn("user", "good day")])
RICH = Question(
    [
        Turn("user", "what is it?", images=[PNG]),
        Turn("assistant", "I ask.", calls=[("call_1", "get_weather", {"city": "Paris"})]),
        Turn("tool", "dry", result_of=("call_1", "get_weather")),
        Turn("user", "and?"),
    ],
    system="Be kind.",
    tools={"get_weather": {"type": "object", "properties": {"city": {"type": "string"}}}},
    stop=["never"],
)
UNREADABLE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"{", id="cut-off"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="a-list"),
    pytest.param(b'"words"', id="a-text"),
    pytest.param(b"\xff\xfe{}", id="no-utf-8"),
    pytest.param(json.dumps({"model": CHAT}).encode("utf-16"), id="utf-16"),
    pytest.param(
        b'{"model": "%b", "messages": [{"role": "user", "content": "\xc3\x28"}]}' % CHAT.encode(),
        id="broken-utf-8",
    ),
    pytest.param(b'{"model": "%b", "messages": NaN}' % CHAT.encode(), id="nan"),
    pytest.param(b'{"model": "%b", "messages": [1,]}' % CHAT.encode(), id="a-comma-too-many"),
    pytest.param(b"[" * 100_000, id="deep-and-open"),
    pytest.param(
        b'{"model": "%b", "messages": ' % CHAT.encode() + b"[" * 50_000 + b"]" * 50_000 + b"}", id="deep"
    ),
    pytest.param(b'{"messages": []}', id="no-model"),
    pytest.param(b'{"model": 5}', id="a-number-for-a-model"),
    pytest.param(b'{"model": ""}', id="an-empty-model"),
    pytest.param(b'{"model": "%b", "model": "other"}' % CHAT.encode(), id="two-models"),
]
PATHS = [pytest.param(path, id=path.strip("/").replace("/", "-")) for path in (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens",
    "/v1/responses", "/api/chat", "/api/generate", "/api/embed", "/api/embeddings",
)]  # fmt: skip


def tongue_of(path: str) -> Tongue:
    name = "ollama" if path.startswith("/api/") else "anthropic" if "messages" in path else "openai"
    return TONGUES[name]


@pytest.fixture
def line(world: World) -> Iterator[Line]:
    one = Line(world.entry.ports["listen"])
    yield one
    one.close()


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("path", PATHS)
def test_what_can_not_be_read(line: Line, path: str, body: bytes) -> None:
    raw = line.ask(path, body)
    assert raw.status in {400, 404}, raw.body
    assert raw.status == 400 or b'"model": ""' in body
    assert tongue_of(path).complaint(raw.body)
    tongue = TONGUES["openai"]
    after = line.ask(tongue.path, json.dumps(tongue.body(CHAT, GOOD, stream=False)).encode())
    assert after.status == 200, "on the same connection"


@pytest.fixture(scope="module")
def lines(swarm_of_clients: World) -> Iterator[Line]:
    """One connection for all examples: it has to live."""
    swarm_of_clients.vllm.forget()
    swarm_of_clients.ollama.forget()
    one = Line(swarm_of_clients.entry.ports["listen"])
    yield one
    one.close()


WRONG: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "auto", "user", "text", "\ud800", "\x00", "data:,", "1e9", "a" * 5000]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "role", "content", "name", "function", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to every value below ``document``, but for the model's name."""
    rows = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in rows:
        if (*path, key) != ("model",):
            yield (*path, key)
            if isinstance(value, (dict, list)):
                yield from places(value, (*path, key))


def spoiled(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@settings(max_examples=150)
@given(data=st.data())
def test_values_of_wrong_types_anywhere(lines: Line, data: st.DataObject) -> None:
    """Whatever stands anywhere: a failure is the client's, in its words, and no connection ends."""
    name = data.draw(st.sampled_from(sorted(TONGUES)))
    tongue, model = TONGUES[name], data.draw(st.sampled_from(MODELS))
    document = tongue.body(model, RICH, stream=data.draw(st.booleans()))
    document |= (
        {"format": None, "temperature": 0.5, "think": False} if name == "ollama" else {"temperature": 0.5}
    )
    extra = [
        "tool_choice",
        "response_format",
        "metadata",
        "options",
        "thinking",
        "n",
        "logprobs",
        "keep_alive",
        "seed",
    ]
    path = data.draw(st.sampled_from([*places(document), *((one,) for one in extra)]))
    body = json.dumps(spoiled(document, path, data.draw(WRONG))).encode()
    raw = lines.ask(tongue.path, body)
    assert raw.whole
    assert raw.status < 500, (path, body, raw.body)
    if raw.status == 200:
        return
    assert raw.status in {400, 403, 404, 413}, (raw.status, raw.body)
    assert tongue.complaint(raw.body)
