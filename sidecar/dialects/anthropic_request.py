"""Anthropic's messages request, read from a client."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from sidecar.dialects.chat import Chat, Form, Image, Message, Part, Thinking, Tool, ToolCall, ToolChoice
from sidecar.dialects.failures import refused
from sidecar.dialects.fields import Coded, Ignored, Refused, Surface, members_of, setting_fields, sort_out
from sidecar.dialects.settings import ABSENT, ANTHROPIC, FLAG, OLLAMA, OPENAI, decoded, given

_ONLY_THERE: Final = "only Anthropic's own service has it"
_BILLING: Final = "nothing is billed"
_SPEED: Final = "only speeds the answer up"

MESSAGES: Final = Surface(
    ANTHROPIC,
    {
        **setting_fields(ANTHROPIC),
        "model": Coded("model", "model"),
        "messages": Coded("messages; pictures of a tool's result follow it as the user's", "messages"),
        "system": Coded("messages, the first one", "messages, the first one"),
        "stream": Coded("stream", "stream"),
        "tools": Coded("tools", "tools"),
        "tool_choice": Coded(
            "tool_choice, parallel_tool_calls",
            "none: no tools are sent; a call that must be made: format, its text becomes the call",
            "choice",
        ),
        "thinking": Coded(
            "disabled: chat_template_kwargs.enable_thinking; else the model's own way",
            "disabled: think; else the model's own way",
            "thinking",
        ),
        "output_config": Coded("effort: the model's own way; format: response_format", "format", "form"),
        "output_format": Coded("response_format", "format"),
        "metadata": Ignored("names the caller"),
        "user_profile_id": Ignored("names the caller"),
        "workspace_id": Ignored("names the caller"),
        "betas": Ignored("a header that stands in the body"),
        "fallbacks": Ignored("the swarm has its own"),
        "fallback_credit_token": Ignored(_BILLING),
        "billing_policy": Ignored(_BILLING),
        "compaction": Ignored("nothing is cut from the conversation"),
        "service_tier": Ignored("there is one"),
        "cache_control": Ignored(_SPEED),
        "speed": Ignored(_SPEED),
        "context_management": Ignored("nothing is cut from the conversation"),
        "diagnostics": Ignored("notes of the caller"),
        "inference_geo": Ignored("models run where the swarm is"),
        "container": Refused(_ONLY_THERE),
        "mcp_servers": Refused(_ONLY_THERE),
    },
    (OPENAI, OLLAMA),
    {"image": "messages"},
)


class _Source(msgspec.Struct):
    type: Literal["base64", "url", "text", "content", "file"]
    data: str = ""
    media_type: str = ""
    url: str = ""
    content: msgspec.Raw = ABSENT


class _Text(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class _Picture(msgspec.Struct, tag_field="type", tag="image"):
    source: _Source


class _Document(msgspec.Struct, tag_field="type", tag="document"):
    source: _Source
    title: str | None = None
    context: str | None = None


class _SearchResult(msgspec.Struct, tag_field="type", tag="search_result"):
    source: str
    title: str
    content: list[_Text]


class _ToolReference(msgspec.Struct, tag_field="type", tag="tool_reference"):
    tool_name: str


class _ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text | _Picture | _Document | _SearchResult | _ToolReference] | None = None
    is_error: bool | None = None


class _Thought(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str


class _Hidden(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str = ""


_Block = _Text | _Picture | _Document | _SearchResult | _ToolUse | _ToolResult | _Thought | _Hidden


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = ABSENT
    strict: bool | None = None


class _Choice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str


class _Format(msgspec.Struct):
    type: Literal["json_schema"]
    schema: msgspec.Raw


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: _Format | None = None


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_SYSTEM: Final = msgspec.json.Decoder(str | list[_Text])
_TOOLS: Final = msgspec.json.Decoder(list[_Tool])
_CHOICE: Final = msgspec.json.Decoder(_Choice)
_THINKING: Final = msgspec.json.Decoder(_Thinking)
_FORMAT: Final = msgspec.json.Decoder(_Format)
_OUTPUT_CONFIG: Final = msgspec.json.Decoder(_OutputConfig)


def read(body: bytes, *, counts: bool = False) -> Chat:
    """A client's request; ``counts``: one that only asks how long it is.

    Raises:
        InvalidRequestError: Something in it is wrong or can't be put into any other dialect.
    """
    coded, settings = sort_out(members_of(body), MESSAGES.fields)
    if "messages" not in coded:
        raise refused("messages", "is missing")
    if "max_tokens" not in settings and not counts:
        raise refused("max_tokens", "is missing")
    turns: list[Message] = []
    if "system" in coded:
        system = decoded(coded["system"], _SYSTEM, "system")
        texts = (system,) if isinstance(system, str) else tuple(block.text for block in system)
        turns.append(Message("system", texts))
    messages = decoded(coded["messages"], _MESSAGES, "messages")
    if not messages:
        raise refused("messages", "is empty")
    for place, one in enumerate(messages):
        turns += _turn(one, f"messages[{place}]")
    choice = decoded(coded["tool_choice"], _CHOICE, "tool_choice") if "tool_choice" in coded else None
    alone = choice is not None and choice.disable_parallel_tool_use
    return Chat(
        messages=tuple(turns),
        settings=settings,
        stream="stream" in coded and decoded(coded["stream"], FLAG, "stream"),
        names=MESSAGES.names,
        tools=_tools(decoded(coded["tools"], _TOOLS, "tools")) if "tools" in coded else (),
        choice=ToolChoice() if choice is None else ToolChoice(_MODES[choice.type], choice.name),
        parallel=False if alone else None,
        form=_form(coded),
        thinking=_thinking(coded),
    )


_MODES: Final[dict[str, Literal["auto", "none", "required", "tool"]]] = {
    "auto": "auto",
    "any": "required",
    "tool": "tool",
    "none": "none",
}


def _turn(one: _Message, where: str) -> list[Message]:
    """The messages that one of Anthropic's is: tools' results stand first, as they answer what was before."""
    if isinstance(one.content, str):
        return [Message(one.role, (one.content,))]
    results: list[Message] = []
    shown: list[Part] = []
    parts: list[Part] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    for place, block in enumerate(one.content):
        match block:
            case _ToolUse(id=call_id, name=name, input=arguments):
                calls.append(ToolCall(call_id, name, bytes(arguments).decode()))
            case _ToolResult(tool_use_id=call_id):
                result = _result(block, f"{where}.content[{place}]")
                results.append(Message("tool", result, call_id=call_id))
                shown += [part for part in result if isinstance(part, Image)]
            case _Thought(text):
                thinking.append(text)
            case _Hidden():
                pass  # only Anthropic's models can read what they hid
            case _:
                parts.append(_part(block, f"{where}.content[{place}]"))
    found = [Message("tool", (result.text,), call_id=result.call_id) for result in results]
    if shown or parts or calls or thinking or not found:
        found.append(Message(one.role, (*shown, *parts), "\n\n".join(thinking), tuple(calls)))
    return found


def _result(block: _ToolResult, where: str) -> tuple[Part, ...]:
    if isinstance(block.content, str):
        return (block.content,)
    parts = tuple(_part(part, f"{where}.content[{i}]") for i, part in enumerate(block.content or ()))
    return parts or (("The tool failed",) if block.is_error else ())


def _part(
    block: _Text | _Picture | _Document | _SearchResult | _ToolReference | _ToolUse | _ToolResult | object,
    where: str,
) -> Part:
    match block:
        case _Text(text):
            return text
        case _Picture(source):
            return _picture(source, f"{where}.source")
        case _Document(source, title, context):
            if source.type == "content":
                texts = decoded(source.content, _SYSTEM, f"{where}.source.content")
                text = texts if isinstance(texts, str) else "\n".join(one.text for one in texts)
            elif source.type == "text":
                text = source.data
            else:
                raise refused(
                    f"{where}.source.type", "send documents as text; this model's backend reads no files"
                )
            return "\n".join(piece for piece in (title, context, text) if piece)
        case _SearchResult(source, title, content):
            return "\n".join((title, source, *(one.text for one in content)))
        case _ToolReference(name):
            return f"The tool {name} is available"
        case _:
            raise refused(where, "can't stand here")


def _picture(source: _Source, where: str) -> Image:
    if source.type == "base64":
        return Image(source.data, source.media_type)
    if source.type == "url":
        return Image(url=source.url)
    raise refused(f"{where}.type", "send pictures in base64; this model's backend holds no files")


def _tools(tools: list[_Tool]) -> tuple[Tool, ...]:
    found = []
    for place, tool in enumerate(tools):
        if tool.type not in {None, "custom"}:
            raise refused(f"tools[{place}].type", f"{_ONLY_THERE}; give the tool an input_schema")
        found.append(Tool(tool.name, tool.description, given(tool.input_schema), tool.strict))
    return tuple(found)


def _form(coded: dict[str, msgspec.Raw]) -> Form | None:
    if "output_config" in coded:
        config = decoded(coded["output_config"], _OUTPUT_CONFIG, "output_config")
        if config.format is not None:
            return Form(config.format.schema)
    if "output_format" in coded:
        return Form(decoded(coded["output_format"], _FORMAT, "output_format").schema)
    return None


def _thinking(coded: dict[str, msgspec.Raw]) -> Thinking | None:
    if "thinking" not in coded:
        return None
    found = decoded(coded["thinking"], _THINKING, "thinking")
    return Thinking(on=False) if found.type == "disabled" else Thinking(on=True, insists=False)
