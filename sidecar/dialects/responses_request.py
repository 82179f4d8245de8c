"""OpenAI's responses request, read from a client as the chat that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from sidecar.dialects.chat import Chat, Form, Message, Part, Role, Thinking, ToolCall
from sidecar.dialects.failures import refused
from sidecar.dialects.fields import Coded, Ignored, Refused, Surface, members_of, setting_fields, sort_out
from sidecar.dialects.openai_chat import image_of
from sidecar.dialects.responses_tools import (
    ONLY_THERE,
    Kinds,
    as_arguments,
    in_space,
    read_choice,
    read_tools,
)
from sidecar.dialects.settings import (
    ABSENT,
    FLAG,
    OLLAMA,
    OPENAI,
    RESPONSES,
    TEXT,
    decoded,
    given,
    one_line,
    starts_text,
)

_KEPT: Final = "this model's backend keeps no answers; send the whole conversation as input"
_TOOLS: Final = (
    "tools; custom ones as functions of one text, namespaces dissolved; those that only OpenAI's own "
    "service runs are left out beside others, alone refused"
)

ECHOED: Final = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
)
"""Members that stand in the answer as they stood in the request."""

RESPONSE: Final = Surface(
    RESPONSES,
    {
        **setting_fields(RESPONSES),
        "model": Coded("model", "model"),
        "input": Coded("messages", "messages"),
        "instructions": Coded("messages, the first one", "messages, the first one"),
        "stream": Coded("stream", "stream"),
        "tools": Coded(_TOOLS, _TOOLS),
        "tool_choice": Coded(
            "tool_choice",
            "none: no tools are sent; a call that must be made: format, its text becomes the call",
            "choice",
        ),
        "parallel_tool_calls": Coded(
            "parallel_tool_calls", "not sent; false: only the first call is passed on"
        ),
        "text": Coded("format: response_format", "format: format", "form"),
        "reasoning": Coded(
            "effort: reasoning_effort", "effort: think, as reasoning_effort above", "thinking"
        ),
        "include": Coded("not sent; message.output_text.logprobs is refused", "as for OpenAI"),
        "metadata": Coded("not sent; stands in the answer", "not sent; stands in the answer"),
        "previous_response_id": Refused(_KEPT),
        "conversation": Refused(_KEPT),
        "prompt": Refused(_KEPT),
        "background": Refused(_KEPT),
        "max_tool_calls": Refused(ONLY_THERE),
        "moderation": Refused(ONLY_THERE),
        "background_options": Ignored("say nothing without background"),
        "access_programs": Ignored("names the caller"),
        "context_management": Ignored("nothing is cut from the conversation"),
        "prompt_cache_options": Ignored("only speeds the answer up"),
        "top_logprobs": Refused("ask /v1/chat/completions for them", frozenset({b"0"})),
        "store": Ignored("answers are not kept"),
        "truncation": Ignored("a prompt that is too long is refused"),
        "stream_options": Ignored("nothing is obfuscated"),
        "user": Ignored("names the caller"),
        "safety_identifier": Ignored("names the caller"),
        "service_tier": Ignored("there is one"),
        "prompt_cache_key": Ignored("only speeds the answer up"),
        "prompt_cache_retention": Ignored("only speeds the answer up"),
        "client_metadata": Ignored("notes of the caller"),
    },
    (OPENAI, OLLAMA),
    {"image": "input"},
)


class _Typed(msgspec.Struct):
    type: str = "message"


class _Part(msgspec.Struct):
    type: Literal[
        "input_text", "output_text", "text", "refusal", "input_image", "summary_text", "reasoning_text"
    ]
    text: str = ""
    refusal: str = ""
    image_url: str | None = None


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[_Part]


class _Call(msgspec.Struct):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class _FreeCall(msgspec.Struct):
    call_id: str
    name: str
    input: str
    namespace: str | None = None


class _Output(msgspec.Struct):
    call_id: str
    output: str | list[_Part]


class _Reasoning(msgspec.Struct):
    summary: list[_Part] | None = None
    content: list[_Part] | None = None


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = "answer"
    schema: msgspec.Raw = ABSENT
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Effort(msgspec.Struct):
    effort: str | None = None


_INPUT: Final = msgspec.json.Decoder(list[msgspec.Raw])
_TYPED: Final = msgspec.json.Decoder(_Typed)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_CALL: Final = msgspec.json.Decoder(_Call)
_FREE_CALL: Final = msgspec.json.Decoder(_FreeCall)
_OUTPUT: Final = msgspec.json.Decoder(_Output)
_REASONING: Final = msgspec.json.Decoder(_Reasoning)
_TEXT: Final = msgspec.json.Decoder(_Text)
_EFFORT: Final = msgspec.json.Decoder(_Effort)
_INCLUDE: Final = msgspec.json.Decoder(list[str])


def read(body: bytes) -> tuple[Chat, Mapping[str, msgspec.Raw], Kinds]:
    """A client's request, those of its members that its answer repeats, and of what kinds its tools are.

    Raises:
        InvalidRequestError: Something in it is wrong or can't be put into any other dialect.
    """
    members = members_of(body)
    coded, settings = sort_out(members, RESPONSE.fields)
    if "input" not in coded:
        raise refused("input", "is missing")
    if "include" in coded and "message.output_text.logprobs" in decoded(
        coded["include"], _INCLUDE, "include"
    ):
        raise refused("include", "ask /v1/chat/completions for logprobs")
    turns = _turns(coded["input"])
    if not turns:
        raise refused("input", "is empty")
    if "instructions" in coded:
        turns.insert(0, Message("system", (decoded(coded["instructions"], TEXT, "instructions"),)))
    effort = decoded(coded["reasoning"], _EFFORT, "reasoning").effort if "reasoning" in coded else None
    thinking = None
    if effort:
        thinking = Thinking(on=False) if effort == "none" else Thinking(effort=effort)
    parallel = coded.get("parallel_tool_calls")
    tools, kinds = read_tools(coded)
    chat = Chat(
        messages=tuple(turns),
        settings=settings,
        stream="stream" in coded and decoded(coded["stream"], FLAG, "stream"),
        names=RESPONSE.names,
        tools=tools,
        choice=read_choice(coded),
        parallel=None if parallel is None else decoded(parallel, FLAG, "parallel_tool_calls"),
        form=_form(coded),
        thinking=thinking,
    )
    return chat, {name: one_line(members[name]) for name in ECHOED if name in members}, kinds


def _turns(raw: msgspec.Raw) -> list[Message]:
    """Thinking and calls are items of their own here; they belong to a turn of the assistant."""
    if starts_text(raw):
        return [Message("user", (decoded(raw, TEXT, "input"),))]
    found: list[Message] = []
    thinking = ""
    items = decoded(raw, _INPUT, "input")
    for place, item in enumerate(items):
        where = f"input[{place}]"
        kind = decoded(item, _TYPED, where).type
        if kind == "reasoning":
            one = decoded(item, _REASONING, where)
            thinking = "\n\n".join(part.text for part in one.content or one.summary or ())
        elif kind in {"function_call", "custom_tool_call"}:
            made = _made(item, kind, where)
            last = found.pop() if found and found[-1].role == "assistant" else Message("assistant")
            found.append(Message("assistant", last.parts, last.thinking or thinking, (*last.calls, made)))
            thinking = ""
        elif kind in {"function_call_output", "custom_tool_call_output"}:
            result = decoded(item, _OUTPUT, where)
            found.append(Message("tool", _parts(result.output, where), call_id=result.call_id))
        elif kind == "message":
            message = decoded(item, _MESSAGE, where)
            role: Role = "system" if message.role == "developer" else message.role
            thought = thinking if role == "assistant" else ""
            found.append(Message(role, _parts(message.content, where), thought))
            thinking = ""
        else:
            raise refused(f"{where}.type", f"{kind[:64]} items can't be passed on to this model's backend")
    return found


def _made(item: msgspec.Raw, kind: str, where: str) -> ToolCall:
    if kind == "custom_tool_call":
        free = decoded(item, _FREE_CALL, where)
        return ToolCall(free.call_id, in_space(free.namespace or "", free.name), as_arguments(free.input))
    call = decoded(item, _CALL, where)
    return ToolCall(call.call_id, in_space(call.namespace or "", call.name), call.arguments)


def _parts(content: str | list[_Part], where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (content,)
    found: list[Part] = []
    for place, part in enumerate(content):
        if part.type != "input_image":
            found.append(part.text or part.refusal)
        elif part.image_url is None:
            raise refused(f"{where}[{place}].image_url", "is missing; this model's backend holds no files")
        else:
            found.append(image_of(part.image_url))
    return tuple(found)


def _form(coded: dict[str, msgspec.Raw]) -> Form | None:
    form = decoded(coded["text"], _TEXT, "text").format if "text" in coded else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return Form()
    schema = given(form.schema)
    if schema is None:
        raise refused("text.format.schema", "is missing")
    return Form(schema, form.name, form.strict)
