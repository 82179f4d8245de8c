"""A conversation as a request to Anthropic's messages: for providers that speak nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from sidecar.dialects.chat import Chat, Image, Message, Part, Tool, ToolCall
from sidecar.dialects.failures import refused
from sidecar.dialects.settings import ANTHROPIC, write

DEFAULT_TOKENS: Final = 8192
"""Anthropic wants a limit of every answer; others' clients say none where they want none."""
_MOST_RANDOM: Final = 1.0
_WITHOUT_EFFECT: Final = {"presence_penalty": 0, "frequency_penalty": 0, "logprobs": False}
"""Values by which clients say what is so anyway."""
_EFFORTS: Final = {"minimal": "low", "xhigh": "high"}
_MODES: Final = {"auto": "auto", "required": "any", "tool": "tool", "none": "none"}
_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def write_messages(chat: Chat, model: str) -> bytes:
    """The body of a request to ``/v1/messages``.

    Thoughts of earlier answers are left out: Anthropic takes back only those that it signed.

    Raises:
        InvalidRequestError: Something in it has no word there; ``param`` names it.
    """
    said = {k: v for k, v in chat.settings.items() if k not in _WITHOUT_EFFECT or v != _WITHOUT_EFFECT[k]}
    top, _ = write(said, ANTHROPIC, chat.called)
    temperature = top.get("temperature")
    if isinstance(temperature, float) and temperature > _MOST_RANDOM:
        raise refused(chat.called("temperature"), "this model's provider takes at most 1")
    body: dict[str, object] = {
        "model": model,
        "max_tokens": DEFAULT_TOKENS,
        "messages": _turns(chat),
        "stream": chat.stream,
        **top,
    }
    system = "\n\n".join(one.text for one in chat.messages if one.role == "system" and one.text)
    if system:
        body["system"] = system
    if chat.tools:
        body["tools"] = [_tool(tool) for tool in chat.tools]
        body["tool_choice"] = _choice(chat)
    body.update(_output(chat))
    return msgspec.json.encode(body)


def _turns(chat: Chat) -> list[dict[str, object]]:
    """User and assistant in turns: results of tools are the user's, all of one round in one message."""
    turns: list[dict[str, object]] = []
    blocks: list[object] = []
    for place, message in enumerate(chat.messages):
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if not turns or turns[-1]["role"] != role:
            blocks = []
            turns.append({"role": role, "content": blocks})
        blocks += _blocks(message, f"{chat.called('messages')}[{place}]")
    return [turn for turn in turns if turn["content"]]


def _blocks(message: Message, where: str) -> Iterable[object]:
    if message.role == "tool":
        result: dict[str, object] = {"type": "tool_result", "tool_use_id": message.call_id}
        shown = [_part(part) for part in message.parts if part]
        return [{**result, "content": shown} if shown else result]
    shown = [_part(part) for part in message.parts if part]
    return [*shown, *(_call(call, where) for call in message.calls)]


def _part(part: Part) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image", "source": _source(part)}


def _source(image: Image) -> dict[str, str]:
    if not image.data:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type or "image/png", "data": image.data}


def _call(call: ToolCall, where: str) -> dict[str, object]:
    try:
        arguments = _OBJECT.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise refused(f"{where}.tool_calls", "the arguments of a call are no JSON object") from error
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _tool(tool: Tool) -> dict[str, object]:
    found: dict[str, object] = {"name": tool.name, "input_schema": tool.parameters or _NO_PARAMETERS}
    if tool.description is not None:
        found["description"] = tool.description
    if tool.strict is not None:
        found["strict"] = tool.strict
    return found


def _choice(chat: Chat) -> dict[str, object]:
    found: dict[str, object] = {"type": _MODES[chat.choice.mode]}
    if chat.choice.mode == "tool":
        found["name"] = chat.choice.name
    if chat.parallel is False and chat.choice.mode != "none":
        found["disable_parallel_tool_use"] = True
    return found


def _output(chat: Chat) -> dict[str, object]:
    """How the answer is to be: its form, and how much is thought before."""
    config: dict[str, object] = {}
    found: dict[str, object] = {}
    if chat.form is not None:
        if chat.form.schema is None:
            raise refused(chat.called("form"), "this model's provider wants a schema")
        config["format"] = {"type": "json_schema", "schema": chat.form.schema}
    if chat.thinking is not None:
        if chat.thinking.effort:
            config["effort"] = _EFFORTS.get(chat.thinking.effort, chat.thinking.effort)
        elif chat.thinking.on is False:
            found["thinking"] = {"type": "disabled"}
    if config:
        found["output_config"] = config
    return found
