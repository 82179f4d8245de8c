"""Answers of a backend that speaks Anthropic's messages."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects.answer import Delta, Ending, ToolDelta, Usage, Whole
from sidecar.dialects.chat import ToolCall
from sidecar.dialects.failures import broken, cut_off, reported


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(msgspec.Struct):
    """A part of an answer. Kinds that nobody here asked for are passed over."""

    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Delta(msgspec.Struct):
    """Of a block, or of the message itself."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


class _Whole(msgspec.Struct):
    type: str
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage | None = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_whole: Final = msgspec.json.Decoder(_Whole).decode
FINISHES: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicAnswer:
    """See :class:`sidecar.dialects.answer.BackendReader`."""

    __slots__ = ("_calls", "_usage", "closed", "ending", "finished")

    def __init__(self) -> None:
        self.ending = Ending()
        self.finished = False
        self.closed = False
        self._calls: dict[int, int] = {}
        """Number of a call by that of its block."""
        self._usage = Usage()

    def read(self, frame: bytes) -> Delta | None:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        try:
            event = _decode_event(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise broken() from error
        match event.type:
            case "content_block_delta" if event.delta is not None:
                return self._delta(event.index, event.delta)
            case "content_block_start" if event.content_block is not None:
                return self._begun(event.index, event.content_block)
            case "message_start" if event.message is not None:
                self._count(event.message.usage)
            case "message_delta":
                self._count(event.usage)
                if event.delta is not None and event.delta.stop_reason:
                    self._finish(event.delta.stop_reason, event.delta.stop_sequence)
            case "message_stop":
                if not self.finished:
                    raise cut_off()
                self.closed = True
            case "error":
                raise reported()
        return None

    def whole(self, body: bytes) -> Whole:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        try:
            answer = _decode_whole(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise broken() from error
        if answer.type == "error":
            raise reported()
        if answer.content is None:
            raise broken()
        if answer.stop_reason is None:
            raise cut_off()
        self._count(answer.usage)
        self._finish(answer.stop_reason, answer.stop_sequence)
        self.closed = True
        blocks = answer.content
        return Whole(
            "".join(one.text for one in blocks if one.type == "text"),
            self.ending,
            "".join(one.thinking for one in blocks if one.type == "thinking"),
            tuple(
                ToolCall(one.id, one.name, bytes(one.input).decode())
                for one in blocks
                if one.type == "tool_use"
            ),
        )

    def _begun(self, index: int, block: _Block) -> Delta | None:
        if block.type == "tool_use":
            number = self._calls[index] = len(self._calls)
            return Delta(tools=[ToolDelta(number, block.id, block.name)])
        return Delta(block.text, block.thinking) if block.text or block.thinking else None

    def _delta(self, index: int, delta: _Delta) -> Delta | None:
        if delta.partial_json and index in self._calls:
            return Delta(tools=[ToolDelta(self._calls[index], arguments=delta.partial_json)])
        return Delta(delta.text, delta.thinking) if delta.text or delta.thinking else None

    def _count(self, usage: _Usage | None) -> None:
        """What is told later stands for what was told before, where it is told again."""
        if usage is None:
            return
        cached, fresh = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        read = (usage.input_tokens or 0) + cached + fresh
        known = self._usage
        self._usage = self.ending.usage = Usage(
            read or known.input_tokens, usage.output_tokens or known.output_tokens, cached or known.cached
        )

    def _finish(self, reason: str, stop_sequence: str | None) -> None:
        self.finished = True
        self.ending.finish = FINISHES.get(reason, "stop")
        self.ending.stop_sequence = stop_sequence
