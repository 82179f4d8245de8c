"""Answers for clients that speak OpenAI's completions."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects.answer import Delta, Ending, Whole
from sidecar.dialects.failures import broken
from sidecar.dialects.openai_writing import counts, stream_tail

encode: Final = msgspec.json.Encoder().encode


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Top] | None = None


_TOKENS: Final = msgspec.json.Decoder(list[_Token])


class CompletionWriter:
    """See :class:`sidecar.dialects.answer.ClientWriter`. Thinking has no place in it."""

    __slots__ = ("_head", "_offset", "_tail", "_with_usage", "created", "id", "model")
    stream_type = b"text/event-stream"

    def __init__(self, asked: str, answer_id: str, now_s: int, *, with_usage: bool) -> None:
        self.id = f"cmpl-{answer_id}"
        self.model = asked
        self.created = now_s
        self._with_usage = with_usage
        self._offset = 0
        self._head = b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,"choices":' % (
            encode(self.id),
            now_s,
            encode(asked),
        )
        self._tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"

    def delta(self, delta: Delta) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        if not delta.text:
            return b""
        return b'%b[{"index":0,"text":%b,"logprobs":%b,"finish_reason":null}]%b' % (
            self._head,
            encode(delta.text),
            encode(self._logprobs(delta.logprobs)),
            self._tail,
        )

    def end(self, ending: Ending) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        last = b'%b[{"index":0,"text":"","logprobs":null,"finish_reason":%b}]%b' % (
            self._head,
            encode(ending.finish),
            self._tail,
        )
        return last + stream_tail(self._head, ending.usage if self._with_usage else None)

    def whole(self, answer: Whole) -> bytes:
        """See :class:`sidecar.dialects.answer.ClientWriter`."""
        choice = {
            "index": 0,
            "text": answer.text,
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": answer.ending.finish,
        }
        document: dict[str, object] = {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }
        if answer.ending.usage is not None:
            document["usage"] = counts(answer.ending.usage)
        return encode(document)

    def _logprobs(self, raw: msgspec.Raw | None) -> dict[str, object] | None:
        if raw is None:
            return None
        try:
            tokens = _TOKENS.decode(raw)
        except msgspec.ValidationError as error:
            raise broken() from error
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.token)
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [
                {top.token: top.logprob for top in token.top_logprobs or ()} for token in tokens
            ],
            "text_offset": offsets,
        }
