"""Answers of a backend that speaks Ollama's chat or generate."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects.answer import Delta, Ending, Timings, ToolDelta, Usage, Whole
from sidecar.dialects.chat import ToolCall
from sidecar.dialects.failures import broken, cut_off, reported
from sidecar.dialects.settings import ABSENT, given


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    logprobs: msgspec.Raw = ABSENT
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    error: object = None


_decode = msgspec.json.Decoder(_Line).decode
FINISHES: Final = {"stop": "stop", "length": "length"}


class OllamaAnswer:
    """See :class:`sidecar.dialects.answer.BackendReader`.

    Calls without an id get one made of ``answer_id``. ``one_call``: only the first call is passed on.
    """

    __slots__ = ("_answer_id", "_calls", "_one_call", "closed", "ending", "finished")

    def __init__(self, answer_id: str, *, one_call: bool = False) -> None:
        self.ending = Ending()
        self.finished = False
        self.closed = False
        self._answer_id = answer_id
        self._one_call = one_call
        self._calls = 0

    def read(self, frame: bytes) -> Delta | None:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        line = _checked(frame)
        if line.done:
            self._end(line)
        message = line.message
        if message is None:
            text, thinking, calls = line.response or "", line.thinking or "", None
        else:
            text, thinking, calls = message.content or "", message.thinking or "", message.tool_calls
        if not (text or thinking or calls):
            return None
        return Delta(text, thinking, self._tools(calls) if calls else None, given(line.logprobs))

    def whole(self, body: bytes) -> Whole:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        line = _checked(body)
        if not line.done:
            raise cut_off()
        message = line.message or _Message(line.response, line.thinking)
        calls = tuple(
            ToolCall(call.id, call.name, call.arguments) for call in self._tools(message.tool_calls or [])
        )
        self._end(line)
        return Whole(message.content or "", self.ending, message.thinking or "", calls, given(line.logprobs))

    def _tools(self, calls: list[_Call]) -> list[ToolDelta]:
        found = []
        for call in calls:
            if self._one_call and self._calls:
                break
            call_id = call.id or f"call_{self._answer_id}_{self._calls}"
            found.append(
                ToolDelta(self._calls, call_id, call.function.name, bytes(call.function.arguments).decode())
            )
            self._calls += 1
        return found

    def _end(self, line: _Line) -> None:
        self.finished = self.closed = True
        ending = self.ending
        ending.finish = FINISHES.get(line.done_reason or "stop", "stop")
        if ending.finish == "stop" and (self._calls or (line.message and line.message.tool_calls)):
            ending.finish = "tool_calls"
        ending.usage = Usage(line.prompt_eval_count, line.eval_count)
        ending.timings = Timings(
            line.total_duration, line.load_duration, line.prompt_eval_duration, line.eval_duration
        )


def _checked(frame: bytes) -> _Line:
    try:
        line = _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise broken() from error
    if line.error is not None:
        raise reported()
    if line.message is None and line.response is None and not line.done:
        raise broken()
    return line
