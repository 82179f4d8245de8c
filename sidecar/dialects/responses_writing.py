"""Answers for clients that speak OpenAI's responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from sidecar.dialects.answer import Delta, Ending, ToolDelta, Usage, Whole
from sidecar.dialects.responses_tools import Kinds, as_text

encode: Final = msgspec.json.Encoder().encode
_PLAIN: Final = Kinds()


@dataclass(slots=True)
class _Item:
    """One piece of output: thinking, text, or a call. ``pieces`` joined are its content."""

    kind: str
    id: str
    index: int
    call_id: str = ""
    name: str = ""
    space: str = ""
    pieces: list[str] = field(default_factory=list)

    def part(self, text: str) -> dict[str, object]:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def document(self, status: str) -> dict[str, object]:
        """The item as it stands in ``output``; without content while it is in progress."""
        text = "".join(self.pieces)
        found: dict[str, object] = {"id": self.id, "type": self.kind, "status": status}
        within = {"namespace": self.space} if self.space else {}
        if self.kind == "custom_tool_call":
            given = "" if status == "in_progress" else as_text(text)
            return found | {"call_id": self.call_id, "name": self.name, "input": given} | within
        if self.kind == "function_call":
            return found | {"call_id": self.call_id, "name": self.name, "arguments": text} | within
        content = [] if status == "in_progress" else [self.part(text)]
        if self.kind == "reasoning":
            return found | {"summary": [], "content": content}
        return found | {"role": "assistant", "content": content}


class ResponsesWriter:
    """See :class:`sidecar.dialects.answer.ClientWriter`. ``echoed`` are members of the request.

    ``kinds``: which of its tools were no plain functions.
    """

    __slots__ = ("_calls", "_echoed", "_id", "_items", "_kinds", "_model", "_now_s", "_number", "_open")
    stream_type = b"text/event-stream"

    def __init__(
        self,
        asked: str,
        answer_id: str,
        now_s: int,
        echoed: Mapping[str, msgspec.Raw],
        kinds: Kinds = _PLAIN,
    ) -> None:
        self._id = answer_id
        self._model = asked
        self._now_s = now_s
        self._echoed = echoed
        self._kinds = kinds
        self._number = 0
        self._items: list[_Item] = []
        self._open: _Item | None = None
        self._calls: dict[int, _Item] = {}

    def delta(self, delta: Delta) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        out = b"" if self._number else self._begin()
        if delta.thinking:
            out += self._shift("reasoning") + self._piece(b"response.reasoning_text.delta", delta.thinking)
        if delta.text:
            out += self._shift("message") + self._piece(b"response.output_text.delta", delta.text)
        for tool in delta.tools or ():
            out += self._tool(tool)
        return out

    def end(self, ending: Ending) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        status, _ = _status(ending)
        out = (b"" if self._number else self._begin()) + self._close(status)
        for item in self._calls.values():
            arguments = "".join(item.pieces)
            where: dict[str, object] = {"item_id": item.id, "output_index": item.index}
            if item.kind == "custom_tool_call":
                text = as_text(arguments)
                out += self._event("response.custom_tool_call_input.delta", where | {"delta": text})
                out += self._event("response.custom_tool_call_input.done", where | {"input": text})
            else:
                done = where | {"name": item.name, "arguments": arguments}
                out += self._event("response.function_call_arguments.done", done)
            out += self._done(item, status)
        return out + self._event(f"response.{status}", {"response": self._response(ending)})

    def whole(self, answer: Whole) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        if answer.thinking:
            self._add("reasoning").pieces.append(answer.thinking)
        if answer.text or not answer.calls:
            self._add("message").pieces.append(answer.text)
        for call in answer.calls:
            item = self._called(call.id, call.name)
            item.pieces.append(call.arguments)
        return encode(self._response(answer.ending))

    def _add(self, kind: str) -> _Item:
        index = len(self._items)
        item = _Item(kind, f"{_PREFIXES[kind]}_{self._id}_{index}", index)
        self._items.append(item)
        return item

    def _called(self, call_id: str, name: str) -> _Item:
        item = self._add("custom_tool_call" if name in self._kinds.free else "function_call")
        item.call_id = call_id
        item.space, item.name = self._kinds.spaces.get(name, ("", name))
        return item

    def _response(self, ending: Ending | None) -> dict[str, object]:
        status, why = ("in_progress", None) if ending is None else _status(ending)
        usage = None if ending is None or ending.usage is None else _usage(ending.usage)
        document: dict[str, object] = {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._now_s,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": why,
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "model": self._model,
            "output": [] if ending is None else [self._shown(item, status) for item in self._items],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            "usage": usage,
        }
        return document | dict(self._echoed)

    def _event(self, kind: str, members: dict[str, object]) -> bytes:
        document = {"type": kind, "sequence_number": self._number} | members
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(document))

    def _begin(self) -> bytes:
        response = self._response(None)
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def _shift(self, kind: str) -> bytes:
        """Make an item of ``kind`` the open one."""
        if self._open is not None and self._open.kind == kind:
            return b""
        out = self._close()
        item = self._open = self._add(kind)
        out += self._event(
            "response.output_item.added", {"output_index": item.index, "item": item.document("in_progress")}
        )
        return out + self._event("response.content_part.added", self._at(item) | {"part": item.part("")})

    def _at(self, item: _Item) -> dict[str, object]:
        return {"item_id": item.id, "output_index": item.index, "content_index": 0}

    def _piece(self, kind: bytes, text: str) -> bytes:
        item = self._open
        if item is None:
            return b""
        item.pieces.append(text)
        logprobs = b',"logprobs":[]' if item.kind == "message" else b""
        line = (
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,"item_id":"%b","output_index":%d,'
            b'"content_index":0,"delta":%b%b}\n\n'
        ) % (kind, kind, self._number, item.id.encode(), item.index, encode(text), logprobs)
        self._number += 1
        return line

    def _close(self, status: str = "completed") -> bytes:
        """End the open item, if any; ``status`` is the answer's, where it ends too."""
        item, self._open = self._open, None
        if item is None:
            return b""
        text = "".join(item.pieces)
        kind = "response.reasoning_text.done" if item.kind == "reasoning" else "response.output_text.done"
        done = self._at(item) | {"text": text}
        if item.kind == "message":
            done["logprobs"] = []
        out = self._event(kind, done)
        out += self._event("response.content_part.done", self._at(item) | {"part": item.part(text)})
        return out + self._done(item, status)

    def _done(self, item: _Item, status: str) -> bytes:
        members = {"output_index": item.index, "item": self._shown(item, status)}
        return self._event("response.output_item.done", members)

    def _shown(self, item: _Item, status: str) -> dict[str, object]:
        """An item that ended: what cut the answer off cut off its last one."""
        return item.document(status if item is self._items[-1] else "completed")

    def _tool(self, tool: ToolDelta) -> bytes:
        out = b""
        item = self._calls.get(tool.index)
        if item is None:
            out = self._close()
            item = self._calls[tool.index] = self._called(tool.id, tool.name)
            out += self._event(
                "response.output_item.added",
                {"output_index": item.index, "item": item.document("in_progress")},
            )
        if tool.arguments:
            item.pieces.append(tool.arguments)
        # A free-form input stands in JSON here: what it is shows at its end.
        if tool.arguments and item.kind == "function_call":
            where: dict[str, object] = {"item_id": item.id, "output_index": item.index}
            out += self._event("response.function_call_arguments.delta", where | {"delta": tool.arguments})
        return out


_PREFIXES: Final = {"reasoning": "rs", "message": "msg", "function_call": "fc", "custom_tool_call": "ctc"}


def _status(ending: Ending) -> tuple[str, dict[str, str] | None]:
    if ending.finish == "length":
        return "incomplete", {"reason": "max_output_tokens"}
    if ending.finish == "content_filter":
        return "incomplete", {"reason": "content_filter"}
    return "completed", None


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
