"""Ollama's chat request: read from a client, written for a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from sidecar.dialects.chat import Chat, Form, Image, Message, Role, Thinking, Tool, ToolCall
from sidecar.dialects.failures import refused
from sidecar.dialects.fields import (
    Coded,
    Fate,
    Ignored,
    Surface,
    members_of,
    option_fields,
    setting_fields,
    sort_out,
)
from sidecar.dialects.forced_calls import forced_tools, schema_of
from sidecar.dialects.settings import (
    ABSENT,
    FLAG,
    OLLAMA,
    OPENAI,
    TEXT,
    Setting,
    decoded,
    given,
    write,
)

_MEMORY: Final = "how the model is held in memory is the backend's own affair"

OPTIONS: Final[Mapping[str, Fate]] = {
    **option_fields(),
    **dict.fromkeys(
        (
            "num_ctx",
            "num_batch",
            "num_gpu",
            "main_gpu",
            "num_thread",
            "use_mmap",
            "use_mlock",
            "numa",
            "low_vram",
            "f16_kv",
            "vocab_only",
            "logits_all",
            "embedding_only",
            "num_keep",
        ),
        Ignored(_MEMORY),
    ),
    "penalize_newline": Ignored("no longer has a meaning"),
    "tfs_z": Ignored("no longer has a meaning"),
}

SHARED: Final[Mapping[str, Fate]] = {
    **setting_fields(OLLAMA),
    "model": Coded(openai="model"),
    "stream": Coded(openai="stream; absent: true"),
    "format": Coded(openai="response_format", name="form"),
    "think": Coded(
        openai="reasoning_effort; true and false: chat_template_kwargs.enable_thinking", name="thinking"
    ),
    "options": Coded(openai="member by member: the table of options"),
    "keep_alive": Coded(
        openai="not sent: how the model is held in memory is the backend's affair; 0 is refused"
    ),
    "truncate": Ignored("a prompt that is too long is refused by the backend"),
    "shift": Ignored("a context that is full ends the answer"),
}
"""What chat and generate have in common."""

OPTION_NAMES: Final = {
    fate.name: f"options.{key}" for key, fate in OPTIONS.items() if isinstance(fate, Setting)
}
CHAT: Final = Surface(
    OLLAMA,
    {**SHARED, "messages": Coded(openai="messages"), "tools": Coded(openai="tools")},
    (OPENAI,),
    OPTION_NAMES,
)


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    name: str | None = None
    tool_call_id: str | None = None


class _Definition(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = ABSENT


class _Tool(msgspec.Struct):
    function: _Definition


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_TOOLS: Final = msgspec.json.Decoder(list[_Tool])
_THINK: Final = msgspec.json.Decoder(bool | str)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(body: bytes) -> Chat:
    """A client's request.

    Raises:
        InvalidRequestError: Something in it is wrong or can't be put into any other dialect.
    """
    coded, settings = sort_out(members_of(body), CHAT.fields)
    settings |= read_options(coded)
    messages = decoded(coded["messages"], _MESSAGES, "messages") if "messages" in coded else []
    if not messages:
        return load(coded, CHAT)
    tools = decoded(coded["tools"], _TOOLS, "tools") if "tools" in coded else ()
    return Chat(
        messages=_turns(messages),
        settings=settings,
        stream=read_stream(coded),
        names=CHAT.names,
        tools=tuple(
            Tool(t.function.name, t.function.description, given(t.function.parameters)) for t in tools
        ),
        form=read_form(coded),
        thinking=read_think(coded),
    )


def load(coded: dict[str, msgspec.Raw], surface: Surface) -> Chat:
    """A request without a prompt: the model is to be loaded.

    Raises:
        InvalidRequestError: It is to be unloaded.
    """
    if "keep_alive" in coded and _ends_now(coded["keep_alive"]):
        raise refused("keep_alive", "this model's backend can't be told to unload a model")
    return Chat(
        messages=(Message("user", ("hi",)),),
        settings={"max_tokens": 1},
        stream=read_stream(coded),
        names=surface.names,
        loads=True,
    )


def _ends_now(keep_alive: msgspec.Raw) -> bool:
    text = bytes(keep_alive).strip(b'"')
    return bool(text) and not text.strip(b"0.smh")


def read_options(coded: dict[str, msgspec.Raw]) -> dict[str, object]:
    """The settings in ``options``. A negative number to predict means no limit."""
    if "options" not in coded:
        return {}
    _, settings = sort_out(members_of(coded["options"], "options"), OPTIONS, "options")
    most = settings.get("max_tokens")
    if isinstance(most, int) and most < 0:
        del settings["max_tokens"]
    return settings


def read_stream(coded: dict[str, msgspec.Raw]) -> bool:
    """Whether to stream: yes, unless told otherwise."""
    return "stream" not in coded or decoded(coded["stream"], FLAG, "stream")


def read_form(coded: dict[str, msgspec.Raw]) -> Form | None:
    """``format``: ``json``, or a schema."""
    raw = coded.get("format")
    if raw is None or bytes(raw) == b'""':
        return None
    if bytes(raw) == b'"json"':
        return Form()
    decoded(raw, _OBJECT, "format")
    return Form(raw)


def read_think(coded: dict[str, msgspec.Raw]) -> Thinking | None:
    """``think``: true, false, or how hard."""
    if "think" not in coded:
        return None
    value = decoded(coded["think"], _THINK, "think")
    return Thinking(value) if isinstance(value, bool) else Thinking(effort=value)


def _turns(messages: list[_Message]) -> tuple[Message, ...]:
    """Ollama need not say which call a tool's message answers: the oldest unanswered one of its tool."""
    made = 0
    open_calls: list[ToolCall] = []
    found: list[Message] = []
    for one in messages:
        calls: list[ToolCall] = []
        for call in one.tool_calls or ():
            calls.append(ToolCall(call.id or f"call_{made}", call.function.name, _arguments(call.function)))
            made += 1
        open_calls += calls
        call_id, name = one.tool_call_id or "", one.tool_name or one.name or ""
        if one.role == "tool":
            answered = _answered(open_calls, call_id, name)
            if answered is not None:
                open_calls.remove(answered)
                call_id, name = answered.id, answered.name
        parts = ((one.content,) if one.content else ()) + tuple(
            Image(data, media_type(data)) for data in one.images or ()
        )
        role: Role = one.role
        found.append(Message(role, parts, one.thinking or "", tuple(calls), call_id, name))
    return tuple(found)


def _arguments(function: _Function) -> str:
    raw = bytes(function.arguments)
    if raw.startswith(b'"'):  # some clients send the text of an object
        text: str = decoded(raw, TEXT, "arguments")
        return text
    return raw.decode()


def _answered(open_calls: list[ToolCall], call_id: str, name: str) -> ToolCall | None:
    for call in open_calls:
        if (call.id == call_id) if call_id else (not name or call.name == name):
            return call
    return None


def media_type(data: str) -> str:
    """What kind of picture base64 ``data`` is, by its first bytes; empty when none that is known."""
    for start, kind in _MAGIC:
        if data.startswith(start):
            return kind
    return ""


_MAGIC: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk", "image/bmp"),
)


def write_chat(chat: Chat, model: str) -> bytes:
    """The body of a request to a backend's ``/api/chat``.

    Raises:
        InvalidRequestError: It asks for what Ollama can't do.
    """
    top, options = write(chat.settings, OLLAMA, chat.called)
    callers = {call.id: call.name for message in chat.messages for call in message.calls}
    body: dict[str, object] = {
        "model": model,
        "messages": [_written(message, chat, callers) for message in chat.messages],
        "stream": chat.stream,
        **top,
    }
    forced = forced_tools(chat)
    tools = forced or (chat.tools if chat.choice.mode != "none" else ())
    if tools:
        body["tools"] = [{"type": "function", "function": _definition(tool)} for tool in tools]
    if forced:
        body["format"] = schema_of(forced)
    elif chat.form is not None:
        body["format"] = chat.form.schema or "json"
    if chat.thinking is not None and (think := _think(chat.thinking, chat)) is not None:
        body["think"] = think
    if chat.keep_alive is not None:
        body["keep_alive"] = chat.keep_alive
    if options:
        body["options"] = options
    return msgspec.json.encode(body)


def _definition(tool: Tool) -> dict[str, object]:
    found: dict[str, object] = {"name": tool.name, "description": tool.description or ""}
    found["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return found


def _think(thinking: Thinking, chat: Chat) -> bool | str | None:
    if thinking.effort:
        level = _EFFORTS.get(thinking.effort)
        if level is None:
            raise refused(chat.called("thinking"), f"may be {', '.join(_EFFORTS)} or none")
        return level
    return None if thinking.on and not thinking.insists else thinking.on


_EFFORTS: Final = {
    "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high",
}  # fmt: skip
"""Ollama has three levels; models without levels take any of them for yes."""


def _written(message: Message, chat: Chat, callers: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {"role": message.role, "content": message.text}
    if message.thinking:
        found["thinking"] = message.thinking
    if message.images:
        found["images"] = [_data(image, chat) for image in message.images]
    if message.calls:
        found["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": _object(call)}}
            for call in message.calls
        ]
    if message.role == "tool":
        found["tool_call_id"] = message.call_id
        name = message.call_name or callers.get(message.call_id)
        if name:
            found["tool_name"] = name
    return found


def _data(image: Image, chat: Chat) -> str:
    if image.url:
        raise refused(chat.called("image"), "this model's backend fetches no pictures; send a data: URL")
    return image.data


def _object(call: ToolCall) -> msgspec.Raw:
    text = call.arguments.encode() or b"{}"
    decoded(text, _OBJECT, "tool_calls.arguments")
    return msgspec.Raw(text)
