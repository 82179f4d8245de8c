"""Answers for clients that speak Anthropic's messages."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from sidecar.dialects.answer import Delta, Ending, ToolDelta, Usage, Whole
from sidecar.dialects.chat import ToolCall
from sidecar.dialects.failures import broken

encode: Final = msgspec.json.Encoder().encode
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_Kind = Literal["", "text", "thinking", "tool"]


class AnthropicWriter:
    """See :class:`sidecar.dialects.answer.ClientWriter`.

    A message is a row of blocks, one open at a time. A call that begins while another's arguments are not
    whole waits until the end.
    """

    __slots__ = (
        "_arguments_said",
        "_begun",
        "_id",
        "_index",
        "_kind",
        "_model",
        "_open_call",
        "_said",
        "_waiting",
    )
    stream_type = b"text/event-stream"

    def __init__(self, asked: str, answer_id: str) -> None:
        self._id = f"msg_{answer_id}"
        self._model = asked
        self._begun = False
        self._index = -1
        self._kind: _Kind = ""
        self._open_call = -1
        self._arguments_said = ""
        self._said: set[int] = set()
        self._waiting: dict[int, ToolDelta] = {}

    def delta(self, delta: Delta) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        out = b"" if self._begun else self._begin()
        if delta.thinking:
            if self._kind != "thinking":
                out += self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            out += self._piece(b'{"type":"thinking_delta","thinking":%b}' % encode(delta.thinking))
        if delta.text:
            if self._kind != "text":
                out += self._open("text", {"type": "text", "text": ""})
            out += self._piece(b'{"type":"text_delta","text":%b}' % encode(delta.text))
        for tool in delta.tools or ():
            out += self._tool(tool)
        return out

    def end(self, ending: Ending) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        out = b"" if self._begun else self._begin()
        for _, tool in sorted(self._waiting.items()):
            out += self._call(tool)
        out += self._close()
        last: dict[str, object] = {
            "type": "message_delta",
            "delta": _stop(ending),
            "usage": _usage(ending.usage or Usage()),
        }
        return (
            out + _event(b"message_delta", last) + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        )

    def whole(self, answer: Whole) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        content: list[dict[str, object]] = []
        if answer.thinking:
            content.append({"type": "thinking", "thinking": answer.thinking, "signature": ""})
        if answer.text:
            content.append({"type": "text", "text": answer.text})
        for call in answer.calls:
            arguments = _object(call, answer.ending)
            if arguments is not None:
                content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
        return encode(
            self._message(content) | _stop(answer.ending) | {"usage": _usage(answer.ending.usage or Usage())}
        )

    def _message(self, content: list[dict[str, object]]) -> dict[str, object]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _begin(self) -> bytes:
        """The counts are not known yet; the last but one event has them."""
        self._begun = True
        message = self._message([]) | {"usage": _usage(Usage())}
        return _event(b"message_start", {"type": "message_start", "message": message})

    def _open(self, kind: _Kind, block: dict[str, object]) -> bytes:
        out = self._close()
        self._kind = kind
        self._index += 1
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return out + _event(b"content_block_start", start)

    def _close(self) -> bytes:
        if not self._kind:
            return b""
        out = b""
        if self._kind == "thinking":
            out = self._piece(b'{"type":"signature_delta","signature":""}')
        self._kind = ""
        self._open_call = -1
        self._arguments_said = ""
        stop = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
        return out + stop % self._index

    def _piece(self, delta: bytes) -> bytes:
        line = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n'
        return line % (self._index, delta)

    def _tool(self, tool: ToolDelta) -> bytes:
        if tool.index == self._open_call:
            return self._arguments(tool.arguments)
        if tool.index in self._said:
            if tool.arguments.strip():
                raise broken()
            return b""
        known = self._waiting.get(tool.index)
        if known is not None:
            known.arguments += tool.arguments
            return b""
        if not tool.name:
            raise broken()
        if self._kind == "tool" and not _is_object(self._arguments_said):
            self._waiting[tool.index] = tool
            return b""
        return self._call(tool)

    def _call(self, tool: ToolDelta) -> bytes:
        out = self._open("tool", {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}})
        self._open_call = tool.index
        self._said.add(tool.index)
        return out + self._arguments(tool.arguments)

    def _arguments(self, text: str) -> bytes:
        if not text:
            return b""
        self._arguments_said += text
        return self._piece(b'{"type":"input_json_delta","partial_json":%b}' % encode(text))


def _event(name: bytes, document: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, encode(document))


def _stop(ending: Ending) -> dict[str, object]:
    if ending.finish == "stop" and ending.stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": ending.stop_sequence}
    return {"stop_reason": REASONS[ending.finish], "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, object]:
    """Anthropic counts what was read from a cache apart from the rest."""
    return {
        "input_tokens": max(usage.input_tokens - usage.cached, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output_tokens,
    }


def _is_object(text: str) -> bool:
    try:
        _OBJECT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _object(call: ToolCall, ending: Ending) -> msgspec.Raw | None:
    """The arguments of ``call``; None for a call that the answer's limit cut off."""
    text = call.arguments or "{}"
    if not _is_object(text):
        if ending.finish == "length":
            return None
        raise broken()
    return msgspec.Raw(text.encode())
