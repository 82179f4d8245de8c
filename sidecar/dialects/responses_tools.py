"""Tools of OpenAI's responses, as the functions that any backend knows.

Agents send four kinds in one list. Functions pass. A free-form tool, whose input is a text by some grammar,
becomes a function of one text; its calls become free-form ones again in the answer. Functions in a namespace
lose it on the way and get it back. What only OpenAI's own service runs (search, pictures, code) is left out
beside tools of the client's own, for a model that is not told of it does not call it; alone it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from sidecar.dialects.chat import Tool, ToolChoice
from sidecar.dialects.failures import refused
from sidecar.dialects.settings import ABSENT, decoded, given

ONLY_THERE: Final = "only OpenAI's own service has it"
_LONGEST_NAME: Final = 64
"""Of a function; longer ones are refused by backends."""
_INPUT: Final = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)


@dataclass(frozen=True, slots=True)
class Kinds:
    """What was no plain function before: how its calls are written in the answer."""

    free: frozenset[str] = frozenset()
    """Names of free-form tools."""
    spaces: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name of a function here → its namespace and its name in there."""


class _Grammar(msgspec.Struct):
    syntax: str = ""
    definition: str = ""


class _Tool(msgspec.Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None
    format: _Grammar | None = None
    tools: list[_Tool] | None = None


class _Choice(msgspec.Struct):
    type: Literal["function", "custom"]
    name: str


class _Free(msgspec.Struct):
    input: str


_TOOLS: Final = msgspec.json.Decoder(list[_Tool])
_CHOICE: Final = msgspec.json.Decoder(Literal["auto", "none", "required"] | _Choice)
_FREE: Final = msgspec.json.Decoder(_Free)


def read_tools(coded: Mapping[str, msgspec.Raw]) -> tuple[tuple[Tool, ...], Kinds]:
    """The tools of a request, and which of them are of another kind for its client.

    Raises:
        InvalidRequestError: One has no name, or all of them are such as nobody here can run.
    """
    if "tools" not in coded:
        return (), Kinds()
    listed = decoded(coded["tools"], _TOOLS, "tools")
    found: list[Tool] = []
    free: set[str] = set()
    spaces: dict[str, tuple[str, str]] = {}
    for where, space, tool in _flat(listed):
        if not tool.name:
            raise refused(f"{where}.name", "is missing")
        name = in_space(space, tool.name)
        if space:
            spaces[name] = (space, tool.name)
        if tool.type == "custom":
            free.add(name)
            found.append(Tool(name, _described(tool), _INPUT))
        else:
            found.append(Tool(name, tool.description, given(tool.parameters), tool.strict))
    if listed and not found:
        raise refused("tools[0].type", f"{ONLY_THERE}; functions alone can be passed on")
    return tuple(found), Kinds(frozenset(free), spaces)


def read_choice(coded: Mapping[str, msgspec.Raw]) -> ToolChoice:
    """Which tools the model may or must call.

    Raises:
        InvalidRequestError: It must call one that only OpenAI's service runs, or it makes no sense.
    """
    if "tool_choice" not in coded:
        return ToolChoice()
    found = decoded(coded["tool_choice"], _CHOICE, "tool_choice")
    return ToolChoice("tool", found.name) if isinstance(found, _Choice) else ToolChoice(found)


def in_space(space: str, name: str) -> str:
    """What the function ``name`` of ``space`` is called where there are no namespaces."""
    if not space:
        return name
    return f"{space.removesuffix('__')}__{name.removeprefix('__')}"[-_LONGEST_NAME:]


def as_arguments(text: str) -> str:
    """What a free-form tool was given, as arguments of its function."""
    return json.dumps({"input": text}, ensure_ascii=False)


def as_text(arguments: str) -> str:
    """What a free-form tool is given by a call with these ``arguments``; all of it where they are none."""
    try:
        return _FREE.decode(arguments).input
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return arguments


def _flat(listed: Iterable[_Tool]) -> Iterator[tuple[str, str, _Tool]]:
    """Where it stands, its namespace and the tool itself; those that nobody here can run are left out."""
    for place, tool in enumerate(listed):
        where = f"tools[{place}]"
        if tool.type == "namespace":
            for inner, one in enumerate(tool.tools or ()):
                if one.type in _OURS:
                    yield f"{where}.tools[{inner}]", tool.name, one
        elif tool.type in _OURS:
            yield where, "", tool


_OURS: Final = frozenset({"function", "custom"})


def _described(tool: _Tool) -> str:
    """With its grammar: where nothing holds the model to it, it has to know it."""
    words = [tool.description or ""]
    if tool.format is not None and tool.format.definition:
        words.append(f"The input is text by this grammar ({tool.format.syntax}):\n{tool.format.definition}")
    return "\n\n".join(word for word in words if word)
