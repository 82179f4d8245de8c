"""OpenAI's API as vLLM (0.11) writes it: tools, streamed arguments, JSON by schema, images, embeddings."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fakes import mind
from tests.fakes.voices import Options, Said, whole

_CREATED = 1_760_000_000
_ARGUMENT_CHARS = 6
"""Arguments of a call are streamed in pieces of so many characters."""


class RefusalError(Exception):
    """The server's own refusal, a 400 unless it says otherwise."""

    def __init__(self, words: str, status: int = 400, kind: str = "BadRequestError") -> None:
        super().__init__(words)
        self.status, self.kind = status, kind


@dataclass
class OpenAIVoice:
    """State of one server."""

    models: tuple[str, ...] = ("m1",)
    context: int = 8192
    thinks: bool = False
    reasoning: str = "reasoning_content"
    """Its name for what it thinks: ``reasoning_content``; ``reasoning`` in newer versions and at Ollama."""
    owner: str = "vllm"
    loading: tuple[str, ...] = ()
    """Models that are listed, but not served yet, as a router of several lists them."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Paths and bodies of inference."""
    counter: mind.Counter = field(default_factory=mind.Counter)

    def report(self) -> dict[str, Any]:
        """For ``GET /fake``."""
        return {}

    def failure(self, path: str, status: int) -> Said:
        """See ``Voice``."""
        del path
        kind = "InternalServerError" if status >= 500 else "BadRequestError"
        error = {"message": "fake failure", "type": kind, "param": None, "code": status}
        return whole({"error": error}, status)

    def answer(self, method: str, path: str, body: bytes, options: Options) -> Said:
        """See ``Voice``."""
        try:
            return (
                self._get(path) if method in {"GET", "HEAD"} else self._post(path, _document(body), options)
            )
        except RefusalError as refusal:
            error = {
                "message": str(refusal),
                "type": refusal.kind,
                "param": None,
                "code": refusal.status,
            }
            return whole({"error": error}, refusal.status)

    def _get(self, path: str) -> Said:
        if path == "/health":
            return Said((b"",))
        if path == "/version":
            return whole({"version": "0.11.0"})
        if path == "/v1/models":
            rows = [
                {
                    "id": name,
                    "object": "model",
                    "created": _CREATED,
                    "owned_by": self.owner,
                    "root": name,
                    "parent": None,
                    "max_model_len": self.context,
                    **({"status": {"value": "loading"}} if name in self.loading else {}),
                }
                for name in self.models
            ]
            return whole({"object": "list", "data": rows})
        return whole({"detail": "Not Found"}, 404)

    def _post(self, path: str, asked: dict[str, Any], options: Options) -> Said:
        act = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/embeddings": self._embeddings,
        }.get(path)
        if act is None:
            return whole({"detail": "Not Found"}, 404)
        self.asked.append((path, asked))
        if asked.get("model") not in self.models:
            words = f"The model `{asked.get('model')}` does not exist."
            raise RefusalError(words, 404, "NotFoundError")
        return act(asked, options)

    def _chat(self, asked: dict[str, Any], options: Options) -> Said:
        thought = _conversation(asked, self.thinks)
        limit = thought.limit
        if limit is not None and thought.words + limit > self.context:
            raise RefusalError(
                f"'max_tokens' or 'max_completion_tokens' is too large: {limit}. This model's maximum "
                f"context length is {self.context} tokens and your request has {thought.words} input tokens "
                f"({limit} > {self.context} - {thought.words})."
            )
        reply = mind.think(thought)
        count = int(asked.get("n") or 1)
        head = {
            "id": f"chatcmpl-{self.counter.next():032x}",
            "created": _CREATED,
            "model": asked["model"],
        }
        usage = _usage(reply, count)
        if not asked.get("stream"):
            choices = [
                {
                    "index": index,
                    "message": self._message(reply),
                    "logprobs": _logprobs(asked, reply.pieces),
                    "finish_reason": _reason(reply),
                    "stop_reason": reply.stopped_by or None,
                }
                for index in range(count)
            ]
            document = {**head, "object": "chat.completion", "choices": choices}
            return whole({**document, "usage": usage} if options.usage else document)
        head["object"] = "chat.completion.chunk"
        steps = [_choice(index, step) for index in range(count) for step in self._deltas(reply, asked)]
        return self._streamed(head, steps, asked, usage, options)

    def _streamed(
        self,
        head: Mapping[str, Any],
        steps: Sequence[Mapping[str, Any]],
        asked: Mapping[str, Any],
        usage: Mapping[str, Any],
        options: Options,
    ) -> Said:
        chunks: list[dict[str, Any]] = [{**head, "choices": [step]} for step in steps]
        if (asked.get("stream_options") or {}).get("include_usage"):
            chunks = [{**chunk, "usage": None} for chunk in chunks] if options.usage else chunks
            chunks += [{**head, "choices": [], "usage": usage}] if options.usage else []
        error = {"message": "fake failure", "type": "InternalServerError", "param": None, "code": 500}
        return Said(
            (*(_event(chunk) for chunk in chunks), b"data: [DONE]\n\n"),
            stream=True,
            content_type="text/event-stream; charset=utf-8",
            failure=_event({"error": error}),
            junk=b'data: {"id": "chatcmpl-1", "choices": [{"ind\n\n',
            end=1,
        )

    def _message(self, reply: mind.Reply) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": reply.text if reply.pieces else None,
            "refusal": None,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for call in reply.calls
            ],
        }
        if reply.thinking:
            message[self.reasoning] = "".join(reply.thinking)
        return message

    def _deltas(self, reply: mind.Reply, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"delta": {"role": "assistant", "content": ""}}
        for piece in reply.thinking:
            yield {"delta": {self.reasoning: piece}}
        for piece in reply.pieces:
            yield {"delta": {"content": piece}, "logprobs": _logprobs(asked, [piece])}
        for number, call in enumerate(reply.calls):
            opening = {"name": call.name, "arguments": ""}
            yield _called({"id": call.id, "type": "function", "index": number, "function": opening})
            text = json.dumps(call.arguments)
            for at in range(0, len(text), _ARGUMENT_CHARS):
                piece = text[at : at + _ARGUMENT_CHARS]
                yield _called({"index": number, "function": {"arguments": piece}})
        yield {"delta": {}, "finish_reason": _reason(reply), "stop_reason": reply.stopped_by or None}

    def _completion(self, asked: dict[str, Any], options: Options) -> Said:
        given = asked.get("prompt")
        prompts = given if isinstance(given, list) and given and isinstance(given[0], str) else [given]
        texts = [one if isinstance(one, str) else f"{len(one or ())} tokens" for one in prompts]
        limit = asked.get("max_tokens")
        replies = [
            mind.think(
                mind.Asked(
                    text=text,
                    words=len(text.split()),
                    limit=16 if limit is None else limit,
                    stop=_stops(asked),
                    suffix=str(asked.get("suffix") or ""),
                )
            )
            for text in texts
        ]
        head = {
            "id": f"cmpl-{self.counter.next():032x}",
            "object": "text_completion",
            "created": _CREATED,
            "model": asked["model"],
        }
        usage = _total(sum(r.prompt_tokens for r in replies), sum(r.tokens for r in replies))
        steps: list[dict[str, Any]] = []
        for index, (text, reply) in enumerate(zip(texts, replies, strict=True)):
            pieces = [text, *reply.pieces] if asked.get("echo") else list(reply.pieces)
            last = {"finish_reason": _reason(reply), "stop_reason": reply.stopped_by or None}
            if asked.get("stream"):
                steps += [_text(index, piece) for piece in pieces] + [{**_text(index, ""), **last}]
            else:
                steps.append({**_text(index, "".join(pieces)), **last})
        if asked.get("stream"):
            return self._streamed(head, steps, asked, usage, options)
        return whole({**head, "choices": steps, **({"usage": usage} if options.usage else {})})

    def _embeddings(self, asked: dict[str, Any], options: Options) -> Said:
        given = asked.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts:
            raise RefusalError("input: a text or a list of texts is expected")
        rows: list[dict[str, Any]] = []
        for index, text in enumerate(texts):
            numbers = mind.vector(str(text), int(asked.get("dimensions") or 8))
            coded: Any = numbers
            if asked.get("encoding_format") == "base64":
                coded = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
            rows.append({"index": index, "object": "embedding", "embedding": coded})
        count = sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        document = {
            "id": f"embd-{self.counter.next():032x}",
            "object": "list",
            "created": _CREATED,
            "model": asked["model"],
            "data": rows,
        }
        return whole({**document, "usage": usage} if options.usage else document)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise RefusalError("[{'type': 'json_invalid', 'msg': 'JSON decode error'}]") from error
    if not isinstance(document, dict):
        raise RefusalError("[{'type': 'model_attributes_type'}]")
    return document


def _conversation(asked: Mapping[str, Any], thinks: bool) -> mind.Asked:
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusalError("messages: a list of messages is expected")
    results = []
    for message in reversed(messages):
        if message.get("role") != "tool":
            break
        results.append(f"{_named(messages, message.get('tool_call_id'))}={_said(message)}")
    spoken = [m for m in messages if m.get("role") != "system" and _said(m)]
    choice = asked.get("tool_choice")
    must = choice["function"]["name"] if isinstance(choice, dict) else {"required": "any"}.get(choice, "")
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    return mind.Asked(
        text=_said(spoken[-1]) if spoken else "",
        system=" ".join(_said(m) for m in messages if m.get("role") in {"system", "developer"}),
        words=sum(len(_said(m).split()) for m in messages),
        tools=() if choice == "none" else tuple(_tools(asked)),
        must_call=must,
        one_call=asked.get("parallel_tool_calls") is False,
        results=tuple(reversed(results)),
        images=tuple(_images(messages[-1])),
        schema=_schema(asked.get("response_format")),
        think=thinks and (asked.get("chat_template_kwargs") or {}).get("enable_thinking") is not False,
        limit=limit,
        stop=_stops(asked),
    )


def _named(messages: Sequence[Mapping[str, Any]], identity: Any) -> str:
    calls = [call for m in messages for call in m.get("tool_calls") or () if call.get("id") == identity]
    return str(calls[0]["function"]["name"]) if calls else ""


def _said(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if part.get("type") == "text")
    return str(content or "")


def _images(message: Mapping[str, Any]) -> Iterator[bytes]:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "image_url":
            url = part["image_url"]["url"]
            head, comma, data = url.partition(",")
            if not comma or not head.startswith("data:image/"):
                raise RefusalError("image_url: this server fetches nothing")
            yield base64.b64decode(data, validate=True)


def _schema(form: Any) -> Mapping[str, Any] | None:
    if not isinstance(form, dict) or form.get("type") == "text":
        return None
    return form["json_schema"].get("schema") or {} if form["type"] == "json_schema" else {}


def _tools(asked: Mapping[str, Any]) -> Iterator[mind.Tool]:
    for one in asked.get("tools") or ():
        yield mind.Tool(one["function"]["name"], one["function"].get("parameters") or {})


def _stops(asked: Mapping[str, Any]) -> tuple[str, ...]:
    stop = asked.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _choice(index: int, step: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": index, "logprobs": None, "finish_reason": None, **step}


def _called(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"delta": {"tool_calls": [call]}}


def _text(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": None, "stop_reason": None}


def _logprobs(asked: Mapping[str, Any], pieces: Sequence[str]) -> dict[str, Any] | None:
    if not asked.get("logprobs"):
        return None
    top = int(asked.get("top_logprobs") or 0)
    rows = []
    for piece in pieces:
        one = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
        rows.append({**one, "top_logprobs": [one] * min(top, 1)})
    return {"content": rows}


def _reason(reply: mind.Reply) -> str:
    return {"calls": "tool_calls"}.get(reply.finish, reply.finish)


def _usage(reply: mind.Reply, count: int) -> dict[str, Any]:
    return {**_total(reply.prompt_tokens, reply.tokens * count), "prompt_tokens_details": None}


def _total(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def server(*models: str, **facts: Any) -> OpenAIVoice:
    """A server of these models."""
    return replace(OpenAIVoice(), models=models or ("m1",), **facts)
