"""Answers for clients that speak OpenAI's chat."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects.answer import Delta, Ending, ToolDelta, Usage, Whole

encode: Final = msgspec.json.Encoder().encode


class OpenAIChatWriter:
    """See :class:`sidecar.dialects.answer.ClientWriter`. All chunks have one id and one time."""

    __slots__ = ("_begun", "_head", "_known", "_tail", "_with_usage", "created", "id", "model")
    stream_type = b"text/event-stream"

    def __init__(self, asked: str, answer_id: str, now_s: int, *, with_usage: bool) -> None:
        self.id = f"chatcmpl-{answer_id}"
        self.model = asked
        self.created = now_s
        self._with_usage = with_usage
        self._begun = False
        self._known: set[int] = set()
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":' % (
            encode(self.id),
            now_s,
            encode(asked),
        )
        self._tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"

    def delta(self, delta: Delta) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        begin = b"" if self._begun else self._begin()
        if delta.tools is None and not delta.thinking:
            body = b'{"content":%b}' % encode(delta.text)
        else:
            body = encode(self._delta(delta))
        logprobs = b"null" if delta.logprobs is None else b'{"content":%b,"refusal":null}' % delta.logprobs
        return b'%b%b[{"index":0,"delta":%b,"logprobs":%b,"finish_reason":null}]%b' % (
            begin,
            self._head,
            body,
            logprobs,
            self._tail,
        )

    def end(self, ending: Ending) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        begin = b"" if self._begun else self._begin()
        last = b'%b%b[{"index":0,"delta":{},"logprobs":null,"finish_reason":%b}]%b' % (
            begin,
            self._head,
            encode(ending.finish),
            self._tail,
        )
        return last + stream_tail(self._head, ending.usage if self._with_usage else None)

    def whole(self, answer: Whole) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        message: dict[str, object] = {
            "role": "assistant",
            "content": answer.text if answer.text or not answer.calls else None,
            "refusal": None,
        }
        if answer.thinking:
            message["reasoning_content"] = answer.thinking
        if answer.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in answer.calls
            ]
        logprobs = None if answer.logprobs is None else {"content": answer.logprobs, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": answer.ending.finish,
        }
        document: dict[str, object] = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }
        if answer.ending.usage is not None:
            document["usage"] = counts(answer.ending.usage)
        return encode(document)

    def _begin(self) -> bytes:
        self._begun = True
        return (
            b'%b[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]%b'
            % (
                self._head,
                self._tail,
            )
        )

    def _delta(self, delta: Delta) -> dict[str, object]:
        found: dict[str, object] = {}
        if delta.text:
            found["content"] = delta.text
        if delta.thinking:
            found["reasoning_content"] = delta.thinking
        if delta.tools:
            found["tool_calls"] = [self._tool(tool) for tool in delta.tools]
        return found

    def _tool(self, tool: ToolDelta) -> dict[str, object]:
        if tool.index in self._known:
            return {"index": tool.index, "function": {"arguments": tool.arguments}}
        self._known.add(tool.index)
        return {
            "index": tool.index,
            "id": tool.id,
            "type": "function",
            "function": {"name": tool.name, "arguments": tool.arguments},
        }


def stream_tail(head: bytes, usage: Usage | None) -> bytes:
    """What follows the last choice: a chunk with the counts, if any, and the mark of the end."""
    chunk = b"" if usage is None else b'%b[],"usage":%b}\n\n' % (head, encode(counts(usage)))
    return chunk + b"data: [DONE]\n\n"


def counts(usage: Usage) -> dict[str, object]:
    """``usage`` as OpenAI writes it."""
    found: dict[str, object] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached}
    if usage.reasoning:
        found["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return found
