"""What fake models think: a request in neutral form in, the same reply out, whatever dialect carried it.

The reply shows what arrived: it repeats the last words, counts images, fills in tools and schemas. So a test
that reads an answer also knows what the backend was asked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CITIES = ("Paris", "Rome", "Tokyo", "Berlin")
"""A request with tools that names some of them gets one call for each."""


@dataclass(frozen=True)
class Tool:
    """A function that may be called."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request, as far as the reply depends on it."""

    text: str
    """Of the last message with words."""
    system: str = ""
    words: int = 1
    """Of everything: stands for tokens of the prompt."""
    tools: Sequence[Tool] = ()
    must_call: str = ""
    """``any``, ``none`` or a tool's name."""
    one_call: bool = False
    """Parallel calls are not wanted."""
    results: Sequence[str] = ()
    """Of tools, at the end of the conversation."""
    images: Sequence[bytes] = ()
    schema: Mapping[str, Any] | None = None
    """JSON is wanted; empty: of any shape."""
    think: bool = False
    limit: int | None = None
    """Of words in the answer."""
    stop: Sequence[str] = ()
    suffix: str = ""


@dataclass(frozen=True)
class Call:
    """A tool called."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer."""

    pieces: Sequence[str] = ()
    """The text, cut as a stream has it."""
    thinking: Sequence[str] = ()
    calls: Sequence[Call] = ()
    finish: str = "stop"
    """``stop``, ``length`` or ``calls``."""
    prompt_tokens: int = 1
    tokens: int = 1
    stopped_by: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)


def think(asked: Asked) -> Reply:
    """The reply of every fake model."""
    thinking = _cut("I think about it.") if asked.think else []
    calls = _calls(asked)
    if calls:
        count = sum(1 + len(call.arguments) for call in calls)
        return Reply((), thinking, calls, "calls", asked.words, count + len(thinking))
    pieces, finish, by = _bounded(_cut(_words(asked)), asked)
    return Reply(pieces, thinking, (), finish, asked.words, len(pieces) + len(thinking), by)


def vector(text: str, size: int = 8) -> list[float]:
    """An embedding: equal texts have equal ones. Its numbers have few binary digits: none is rounded."""
    digest = hashlib.sha256(text.encode()).digest()
    return [(digest[i % 32] - 128) / 128 for i in range(size)]


def instance(schema: Mapping[str, Any], word: str = "word") -> Any:
    """A value that a JSON schema allows, with every property it names."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: instance(one, word) for name, one in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items") or {}, word)]
    return {"integer": 3, "number": 1.5, "boolean": True, "null": None}.get(str(kind), word)


def _calls(asked: Asked) -> list[Call]:
    tools = [one for one in asked.tools if asked.must_call in {"", "any", one.name}]
    if not tools or asked.results:
        return []
    tool = next((one for one in tools if one.name in asked.text), tools[0])
    cities = [city for city in CITIES if city in asked.text]
    if not cities and not asked.must_call and tool.name not in asked.text:
        return []
    words = (cities or ["word"])[: 1 if asked.one_call else None]
    return [
        Call(f"call_{number}{tool.name}", tool.name, instance(tool.schema, word))
        for number, word in enumerate(words)
    ]


def _words(asked: Asked) -> str:
    if asked.schema is not None:
        import json

        return json.dumps(instance(asked.schema, "word") if asked.schema else {"said": asked.text})
    if asked.results:
        return "The tools say: " + "; ".join(asked.results)
    if asked.images:
        seen = ", ".join(hashlib.sha256(one).hexdigest()[:8] for one in asked.images)
        return f"I see {len(asked.images)} images: {seen}"
    if asked.suffix:
        return f"between {asked.text.split()[-1]} and {asked.suffix.split()[0]}"
    count = re.fullmatch(r"count to (\d+)", asked.text)
    if count:
        return " ".join(map(str, range(1, int(count[1]) + 1)))
    manner = f" ({asked.system})" if asked.system else ""
    return f"You said: {asked.text}{manner}"


def _cut(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def _bounded(pieces: list[str], asked: Asked) -> tuple[list[str], str, str]:
    text = "".join(pieces)
    found = [(text.index(word), word) for word in asked.stop if word and word in text]
    finish, by = "stop", ""
    if found:
        at, by = min(found)
        pieces = _cut(text[:at])
    if asked.limit is not None and 0 <= asked.limit < len(pieces):
        pieces, finish, by = pieces[: asked.limit], "length", ""
    return pieces, finish, by


@dataclass
class Counter:
    """Numbers that no two answers of one server share."""

    last: int = field(default=0)

    def next(self) -> int:
        """The next one."""
        self.last += 1
        return self.last
