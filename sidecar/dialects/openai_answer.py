"""Answers of a backend that speaks OpenAI's chat or completions."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects.answer import Delta, Ending, Timings, ToolDelta, Usage, Whole
from sidecar.dialects.chat import ToolCall
from sidecar.dialects.failures import BackendAnswerError, broken, reported
from sidecar.dialects.settings import ABSENT, given


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Logprobs(msgspec.Struct):
    content: msgspec.Raw = ABSENT
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Delta(msgspec.Struct):
    """A stream's ``delta`` or a whole answer's ``message``. vLLM calls thinking ``reasoning``."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Timings(msgspec.Struct):
    """What llama.cpp adds."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: object = None


_decode = msgspec.json.Decoder(_Answer).decode
FINISHES: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
CUT_OFF: Final = frozenset({"abort", "error", "timeout", "cancelled"})
_NS_PER_MS: Final = 1_000_000
_LONGEST_MS: Final = 1e9


class OpenAIAnswer:
    """See :class:`sidecar.dialects.answer.BackendReader`. Only the first choice is read."""

    __slots__ = ("closed", "ending", "finished")

    def __init__(self) -> None:
        self.ending = Ending()
        self.finished = False
        self.closed = False

    def read(self, frame: bytes) -> Delta | None:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        if frame == b"[DONE]":
            self.finished = self.closed = True
            return None
        answer = _checked(frame)
        if answer.usage is not None or answer.timings is not None:
            self._count(answer)
        choices = answer.choices
        if not choices:
            return None
        choice = choices[0]
        if choice.index or self.finished:
            return None
        if choice.finish_reason:
            self._finish(choice)
        delta = choice.delta
        if delta is None:
            return Delta(choice.text, "", None, _logprobs(choice)) if choice.text else None
        text = delta.content or delta.refusal or ""
        thinking = delta.reasoning_content or delta.reasoning or ""
        tools = delta.tool_calls
        if not (text or thinking or tools):
            return None
        return Delta(
            text,
            thinking,
            _tools(tools) if tools else None,
            None if choice.logprobs is None else _logprobs(choice),
        )

    def whole(self, body: bytes) -> Whole:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        answer = _checked(body)
        if not answer.choices:
            raise broken()
        choice = answer.choices[0]
        if choice.message is None and choice.text is None:
            raise broken()
        self._count(answer)
        self._finish(choice)
        message = choice.message or _Delta(content=choice.text)
        calls = tuple(_whole_call(call) for call in message.tool_calls or ())
        return Whole(
            message.content or message.refusal or "",
            self.ending,
            message.reasoning_content or message.reasoning or "",
            calls,
            _logprobs(choice),
        )

    def _finish(self, choice: _Choice) -> None:
        reason = choice.finish_reason or "stop"
        if reason in CUT_OFF:
            raise BackendAnswerError("The backend gave the answer up")
        self.finished = True
        self.ending.finish = FINISHES.get(reason, "stop")
        if isinstance(choice.stop_reason, str) and reason == "stop":
            self.ending.stop_sequence = choice.stop_reason

    def _count(self, answer: _Answer) -> None:
        usage, timings = answer.usage, answer.timings
        if usage is not None:
            details, thought = usage.prompt_tokens_details, usage.completion_tokens_details
            self.ending.usage = Usage(
                usage.prompt_tokens or 0,
                usage.completion_tokens or 0,
                (details.cached_tokens or 0) if details else 0,
                (thought.reasoning_tokens or 0) if thought else 0,
            )
        if timings is not None:
            prompt, output = _ns(timings.prompt_ms), _ns(timings.predicted_ms)
            self.ending.timings = Timings(prompt + output, 0, prompt, output)


def _checked(frame: bytes) -> _Answer:
    try:
        answer = _decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise broken() from error
    if answer.error is not None:
        raise reported()
    if answer.choices is None and answer.usage is None:
        raise broken()
    return answer


def _ns(ms: float | None) -> int:
    return round(ms * _NS_PER_MS) if ms is not None and 0 <= ms < _LONGEST_MS else 0


def _tools(calls: list[_Call]) -> list[ToolDelta]:
    found = []
    for place, call in enumerate(calls):
        function = call.function
        found.append(
            ToolDelta(
                place if call.index is None else call.index,
                call.id or "",
                (function.name or "") if function else "",
                (function.arguments or "") if function else "",
            )
        )
    return found


def _whole_call(call: _Call) -> ToolCall:
    if call.function is None or not call.function.name:
        raise broken()
    return ToolCall(call.id or "", call.function.name, call.function.arguments or "")


def _logprobs(choice: _Choice) -> msgspec.Raw | None:
    found = choice.logprobs
    if found is None:
        return None
    content = given(found.content)
    if content is not None:
        return content
    if found.tokens is None:
        return None
    tops = found.top_logprobs or [None] * len(found.tokens)
    return msgspec.Raw(
        msgspec.json.encode(
            [
                {
                    "token": token,
                    "logprob": logprob or 0.0,
                    "top_logprobs": [{"token": t, "logprob": p} for t, p in (top or {}).items()],
                }
                for token, logprob, top in zip(found.tokens, found.token_logprobs or (), tops, strict=False)
            ]
        )
    )
