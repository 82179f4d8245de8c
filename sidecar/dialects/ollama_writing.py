"""Answers for clients that speak Ollama's chat or generate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from sidecar.dialects.answer import Clock, Delta, Ending, Timings, ToolDelta, Whole
from sidecar.dialects.chat import ToolCall
from sidecar.dialects.failures import broken
from sidecar.dialects.settings import one_line

encode: Final = msgspec.json.Encoder().encode
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class OllamaWriter:
    """See :class:`sidecar.dialects.answer.ClientWriter`. ``generates``: lines of generate, not of chat.

    ``loads``: the client only wanted the model loaded, and what the model said is nobody's business.
    Ollama's tool calls are whole: pieces of arguments are collected and come out before the last line.
    """

    __slots__ = ("_began_ns", "_calls", "_clock_ns", "_first_ns", "_generates", "_head", "_loads")
    stream_type = b"application/x-ndjson"

    def __init__(
        self, asked: str, now_s: int, clock_ns: Clock, *, generates: bool = False, loads: bool = False
    ) -> None:
        at = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._head = b'{"model":%b,"created_at":"%b",' % (encode(asked), at.encode())
        self._generates = generates
        self._loads = loads
        self._clock_ns = clock_ns
        self._began_ns = clock_ns()
        self._first_ns = 0
        self._calls: dict[int, ToolDelta] = {}

    def delta(self, delta: Delta) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        if not self._first_ns:
            self._first_ns = self._clock_ns()
        if self._loads:
            return b""
        for tool in delta.tools or ():
            self._collect(tool)
        if not delta.text and not delta.thinking:
            return b""
        logprobs = b"" if delta.logprobs is None else b',"logprobs":%b' % delta.logprobs
        if delta.thinking or self._generates:
            body = self._body(delta.text, delta.thinking, ())
        else:
            body = b'"message":{"role":"assistant","content":%b}' % encode(delta.text)
        return b'%b%b,"done":false%b}\n' % (self._head, body, logprobs)

    def end(self, ending: Ending) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        calls = _whole_calls(
            [ToolCall(c.id, c.name, c.arguments) for _, c in sorted(self._calls.items())], ending
        )
        before = b'%b%b,"done":false}\n' % (self._head, self._body("", "", calls)) if calls else b""
        return b"%b%b%b,%b}\n" % (before, self._head, self._body("", "", ()), self._ending(ending))

    def whole(self, answer: Whole) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        if self._loads:
            return self.end(answer.ending)[:-1]
        calls = _whole_calls(list(answer.calls), answer.ending)
        logprobs = b"" if answer.logprobs is None else b',"logprobs":%b' % answer.logprobs
        body = self._body(answer.text, answer.thinking, calls)
        return b"%b%b,%b%b}" % (self._head, body, self._ending(answer.ending), logprobs)

    def _collect(self, tool: ToolDelta) -> None:
        known = self._calls.get(tool.index)
        if known is None:
            self._calls[tool.index] = tool
        else:
            known.arguments += tool.arguments
            known.id = known.id or tool.id
            known.name = known.name or tool.name

    def _body(self, text: str, thinking: str, calls: tuple[dict[str, object], ...]) -> bytes:
        if self._generates:
            found: dict[str, object] = {"response": text}
            if thinking:
                found["thinking"] = thinking
            return encode(found)[1:-1]
        message: dict[str, object] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return b'"message":%b' % encode(message)

    def _ending(self, ending: Ending) -> bytes:
        if self._loads:
            return b'"done_reason":"load","done":true'
        found: dict[str, object] = {
            "done": True,
            "done_reason": "length" if ending.finish == "length" else "stop",
        }
        timings, usage = ending.timings or self._measured(), ending.usage
        if timings.total_ns:
            found |= {"total_duration": timings.total_ns, "load_duration": timings.load_ns}
        if usage is not None:
            found["prompt_eval_count"] = usage.input_tokens
        if timings.total_ns:
            found["prompt_eval_duration"] = timings.prompt_ns
        if usage is not None:
            found["eval_count"] = usage.output_tokens
        if timings.total_ns:
            found["eval_duration"] = timings.output_ns
        return encode(found)[1:-1]

    def _measured(self) -> Timings:
        """What passed here, as the backend told nothing; a whole answer is output from its start."""
        now_ns, began_ns = self._clock_ns(), self._began_ns
        first_ns = self._first_ns or began_ns
        return Timings(now_ns - began_ns, 0, first_ns - began_ns, now_ns - first_ns)


def _whole_calls(calls: list[ToolCall], ending: Ending) -> tuple[dict[str, object], ...]:
    """Calls with their arguments as objects. One that the answer's limit cut off is left out."""
    found: list[dict[str, object]] = []
    for call in calls:
        text = call.arguments.encode() or b"{}"
        try:
            _OBJECT.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if ending.finish == "length":
                continue
            raise broken() from error
        function = {"name": call.name, "arguments": one_line(text)}
        found.append({"id": call.id, "function": function} if call.id else {"function": function})
    return tuple(found)
