"""OpenAI's chat request: read from a client, written for a backend."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from sidecar.dialects.chat import (
    Chat,
    Form,
    Image,
    Message,
    Part,
    Role,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
)
from sidecar.dialects.failures import refused
from sidecar.dialects.fields import Coded, Ignored, Refused, Surface, members_of, setting_fields, sort_out
from sidecar.dialects.settings import ABSENT, FLAG, OLLAMA, OPENAI, TEXT, decoded, given, write

_NO_SUCH: Final = "this model's backend can't do it"

CHAT: Final = Surface(
    OPENAI,
    {
        **setting_fields(OPENAI),
        "model": Coded(ollama="model"),
        "messages": Coded(ollama="messages"),
        "stream": Coded(ollama="stream"),
        "stream_options": Coded(ollama="not sent; the stream ends with a chunk of counts if asked for"),
        "tools": Coded(ollama="tools"),
        "tool_choice": Coded(
            ollama="none: no tools are sent; a call that must be made: format, its text becomes the call",
            name="choice",
        ),
        "parallel_tool_calls": Coded(ollama="not sent; false: only the first call is passed on"),
        "response_format": Coded(ollama="format", name="form"),
        "reasoning_effort": Coded(
            ollama="think: low, medium or high, the nearest; left out where the model does not think",
            name="thinking",
        ),
        "chat_template_kwargs": Coded(ollama="think; anything but enable_thinking is refused"),
        "keep_alive": Coded(ollama="keep_alive"),
        "n": Refused(_NO_SUCH, frozenset({b"1"})),
        "logit_bias": Refused(_NO_SUCH),
        "functions": Refused("use tools instead"),
        "function_call": Refused("use tool_choice instead", frozenset({b'"auto"', b'"none"'})),
        "audio": Refused(_NO_SUCH),
        "modalities": Refused(_NO_SUCH, frozenset({b'["text"]'})),
        "web_search_options": Refused(_NO_SUCH),
        "moderation": Refused(_NO_SUCH),
        "prompt_cache_options": Ignored("only speeds the answer up"),
        "verbosity": Ignored("a wish that only OpenAI's own models know"),
        "user": Ignored("names the caller"),
        "metadata": Ignored("notes of the caller"),
        "store": Ignored("answers are not kept"),
        "service_tier": Ignored("there is one"),
        "prediction": Ignored("only speeds the answer up"),
        "prompt_cache_key": Ignored("only speeds the answer up"),
        "prompt_cache_retention": Ignored("only speeds the answer up"),
        "safety_identifier": Ignored("names the caller"),
    },
    (OLLAMA,),
    {"image": "messages"},
)


class _Url(msgspec.Struct):
    url: str


class _TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class _RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class _ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    image_url: _Url


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[_TextPart | _RefusalPart | _ImagePart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _Definition(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    strict: bool | None = None


class _Tool(msgspec.Struct):
    function: _Definition
    type: Literal["function"] = "function"


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    function: _Named
    type: Literal["function"] = "function"


class _Schema(msgspec.Struct):
    schema: msgspec.Raw = ABSENT
    name: str = "answer"
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_TOOLS: Final = msgspec.json.Decoder(list[_Tool])
_CHOICE: Final = msgspec.json.Decoder(Literal["auto", "none", "required"] | _Choice)
_FORMAT: Final = msgspec.json.Decoder(_Format)
_STREAM_OPTIONS: Final = msgspec.json.Decoder(_StreamOptions)
_ROLES: Final[dict[str, Role]] = {"developer": "system", "function": "tool"}


def read(body: bytes) -> Chat:
    """A client's request.

    Raises:
        InvalidRequestError: Something in it is wrong or can't be put into any other dialect.
    """
    coded, settings = sort_out(members_of(body), CHAT.fields)
    if "messages" not in coded:
        raise refused("messages", "is missing")
    messages = decoded(coded["messages"], _MESSAGES, "messages")
    if not messages:
        raise refused("messages", "is empty")
    choice = coded.get("tool_choice")
    return Chat(
        messages=tuple(_message(one, f"messages[{place}]") for place, one in enumerate(messages)),
        settings=settings,
        stream=flag(coded, "stream") or False,
        names=CHAT.names,
        tools=tuple(
            Tool(
                one.function.name,
                one.function.description,
                given(one.function.parameters),
                one.function.strict,
            )
            for one in (decoded(coded["tools"], _TOOLS, "tools") if "tools" in coded else ())
        ),
        choice=_choice(decoded(choice, _CHOICE, "tool_choice")) if choice is not None else ToolChoice(),
        parallel=flag(coded, "parallel_tool_calls"),
        form=_form(coded["response_format"]) if "response_format" in coded else None,
        thinking=_thinking(coded),
        with_usage=read_with_usage(coded),
        keep_alive=coded.get("keep_alive"),
    )


def flag(coded: dict[str, msgspec.Raw], name: str) -> bool | None:
    """The boolean member ``name``; None where it is left out."""
    return decoded(coded[name], FLAG, name) if name in coded else None


def read_with_usage(coded: dict[str, msgspec.Raw]) -> bool:
    """Whether the client wants its stream to end with counts."""
    if "stream_options" not in coded:
        return False
    return bool(decoded(coded["stream_options"], _STREAM_OPTIONS, "stream_options").include_usage)


def _message(one: _Message, where: str) -> Message:
    parts: list[Part] = []
    if isinstance(one.content, str):
        parts.append(one.content)
    else:
        for part in one.content or ():
            match part:
                case _TextPart(text):
                    parts.append(text)
                case _RefusalPart(refusal):
                    parts.append(refusal)
                case _ImagePart(image_url):
                    parts.append(image_of(image_url.url))
    if one.refusal and not parts:
        parts.append(one.refusal)
    calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in one.tool_calls or ())
    if one.role == "tool" and not one.tool_call_id:
        raise refused(f"{where}.tool_call_id", "is missing")
    return Message(
        _ROLES.get(one.role, one.role),  # type: ignore[arg-type]  # the table has what is no Role
        tuple(parts),
        one.reasoning_content or one.reasoning or "",
        calls,
        one.tool_call_id or "",
        (one.name or "") if one.role in {"tool", "function"} else "",
    )


def image_of(url: str) -> Image:
    """A picture from its ``data:`` URL, or the address of one."""
    if not url.startswith("data:"):
        return Image(url=url)
    head, _, data = url[5:].partition(",")
    media_type, _, coding = head.partition(";")
    if "base64" not in coding:
        raise refused("image_url", "a data: URL must be in base64")
    return Image(data, media_type)


def _choice(found: str | _Choice) -> ToolChoice:
    if isinstance(found, _Choice):
        return ToolChoice("tool", found.function.name)
    return ToolChoice(found)  # type: ignore[arg-type]  # decoded as one of its words


def _form(raw: msgspec.Raw) -> Form | None:
    found: _Format = decoded(raw, _FORMAT, "response_format")
    if found.type == "text":
        return None
    if found.type == "json_object":
        return Form()
    asked = found.json_schema
    schema = None if asked is None else given(asked.schema)
    if asked is None or schema is None:
        raise refused("response_format.json_schema.schema", "is missing")
    return Form(schema, asked.name, asked.strict)


def _thinking(coded: dict[str, msgspec.Raw]) -> Thinking | None:
    on: bool | None = None
    if "chat_template_kwargs" in coded:
        name = "chat_template_kwargs"
        for key, raw in members_of(coded[name], name).items():
            if key not in {"enable_thinking", "thinking"}:
                raise refused(f"{name}.{key}"[:256], _NO_SUCH)
            on = decoded(raw, FLAG, f"{name}.{key}")
    effort = (
        decoded(coded["reasoning_effort"], TEXT, "reasoning_effort") if "reasoning_effort" in coded else ""
    )
    if effort == "none":
        return Thinking(on=False)
    return Thinking(on, effort) if effort or on is not None else None


def write_chat(chat: Chat, model: str) -> bytes:
    """The body of a request to a backend's ``/v1/chat/completions``.

    A stream is asked for its counts: clients of other dialects always get them.
    """
    top, _ = write(chat.settings, OPENAI, chat.called)
    body: dict[str, object] = {
        "model": model,
        "messages": [_written(message) for message in chat.messages],
        "stream": chat.stream,
        **top,
    }
    if chat.stream:
        body["stream_options"] = {"include_usage": True}
    if chat.tools:
        body["tools"] = [{"type": "function", "function": _definition(tool)} for tool in chat.tools]
    if chat.choice.mode == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": chat.choice.name}}
    elif chat.choice.mode != "auto":
        body["tool_choice"] = chat.choice.mode
    if chat.parallel is not None and chat.tools:
        body["parallel_tool_calls"] = chat.parallel
    if chat.form is not None:
        body["response_format"] = _written_form(chat.form)
    if chat.thinking is not None:
        body.update(_written_thinking(chat.thinking))
    return msgspec.json.encode(body)


def _definition(tool: Tool) -> dict[str, object]:
    found: dict[str, object] = {"name": tool.name}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.parameters is not None:
        found["parameters"] = tool.parameters
    if tool.strict is not None:
        found["strict"] = tool.strict
    return found


def _written_form(form: Form) -> dict[str, object]:
    if form.schema is None:
        return {"type": "json_object"}
    schema: dict[str, object] = {"name": form.name, "schema": form.schema}
    if form.strict is not None:
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}


def _written_thinking(thinking: Thinking) -> dict[str, object]:
    found: dict[str, object] = {}
    if thinking.effort:
        found["reasoning_effort"] = thinking.effort
    if thinking.on is not None and thinking.insists:
        found["chat_template_kwargs"] = {"enable_thinking": thinking.on}
    return found


def _written(message: Message) -> dict[str, object]:
    found: dict[str, object] = {"role": message.role}
    if message.images or len(message.parts) > 1:
        found["content"] = [_part(part) for part in message.parts]
    elif message.parts or not message.calls:
        found["content"] = message.text
    else:
        found["content"] = None
    if message.thinking:
        found["reasoning_content"] = message.thinking
    if message.calls:
        found["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    if message.role == "tool":
        found["tool_call_id"] = message.call_id
    return found


def _part(part: Part) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
    return {"type": "image_url", "image_url": {"url": url}}
