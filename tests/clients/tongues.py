"""The three dialects of clients, spoken by hand: one question in, one understanding of the answer out."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol


@dataclass(frozen=True)
class Turn:
    """A message of any dialect."""

    role: str
    text: str = ""
    images: Sequence[bytes] = ()
    calls: Sequence[tuple[str, str, Mapping[str, Any]]] = ()
    """Id, name, arguments."""
    result_of: tuple[str, str] = ("", "")
    """Id and name of the call that this is the result of."""


@dataclass(frozen=True)
class Question:
    """A request of any dialect."""

    turns: Sequence[Turn]
    system: str = ""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Parameters by name."""
    stop: Sequence[str] = ()
    limit: int = 64


@dataclass(frozen=True)
class Heard:
    """An answer of any dialect."""

    text: str
    calls: Sequence[tuple[str, Mapping[str, Any]]]
    finish: str
    """``stop``, ``length`` or ``calls``."""
    tokens: tuple[int, int]
    """Of the prompt and of the answer."""


@dataclass(frozen=True)
class Raw:
    """What came over the wire. ``whole`` is false where the connection ended too early."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True


class BrokenAnswerError(Exception):
    """It says of itself that it is none, or it is cut off."""


class Tongue(Protocol):
    """A dialect."""

    path: str

    def body(self, model: str, question: Question, *, stream: bool) -> dict[str, Any]:
        """The question."""
        ...

    def heard(self, raw: Raw, *, stream: bool) -> Heard:
        """The answer; raises :class:`BrokenAnswerError`."""
        ...

    def complaint(self, body: bytes) -> str:
        """The words of an error, whose shape is checked."""
        ...


class OpenAI:
    """Chat completions."""

    path: Final = "/v1/chat/completions"

    def body(self, model: str, question: Question, *, stream: bool) -> dict[str, Any]:
        messages = [{"role": "system", "content": question.system}] if question.system else []
        messages += [_openai_message(turn) for turn in question.turns]
        body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": question.limit}
        if question.tools:
            body["tools"] = [_function(name, schema) for name, schema in question.tools.items()]
        if question.stop:
            body["stop"] = list(question.stop)
        return {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body

    def heard(self, raw: Raw, *, stream: bool) -> Heard:
        if not stream:
            document = json.loads(raw.body)
            choice = document["choices"][0]
            calls = [
                (call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in choice["message"].get("tool_calls") or ()
            ]
            usage = document.get("usage") or {}
            text, finish = choice["message"]["content"] or "", choice["finish_reason"]
        else:
            rows = list(_sse(raw))
            if not rows or rows.pop() != "[DONE]":
                raise BrokenAnswerError(raw.body[-200:])
            chunks = [json.loads(row) for row in rows]
            assert not any("error" in chunk for chunk in chunks), "an error, and then a good end"
            text, finish, calls, usage = _openai_stream(chunks)
        tokens = (usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
        return Heard(text, calls, {"tool_calls": "calls"}.get(finish, finish), tokens)

    def complaint(self, body: bytes) -> str:
        error = json.loads(body)["error"]
        assert set(error) >= {"message", "type", "code", "param"}
        return _words(error["message"])


class Ollama:
    """Native chat."""

    path: Final = "/api/chat"

    def body(self, model: str, question: Question, *, stream: bool) -> dict[str, Any]:
        messages = [{"role": "system", "content": question.system}] if question.system else []
        messages += [_ollama_message(turn) for turn in question.turns]
        options: dict[str, Any] = {"num_predict": question.limit}
        if question.stop:
            options["stop"] = list(question.stop)
        body = {"model": model, "messages": messages, "options": options, "stream": stream}
        if question.tools:
            body["tools"] = [_function(name, schema) for name, schema in question.tools.items()]
        return body

    def heard(self, raw: Raw, *, stream: bool) -> Heard:
        lines = []
        for row in raw.body.splitlines():
            try:
                lines.append(json.loads(row))
            except ValueError as error:
                raise BrokenAnswerError(row[:200]) from error
        if not raw.whole or not lines or not lines[-1].get("done"):
            raise BrokenAnswerError(raw.body[-200:])
        assert stream or len(lines) == 1
        assert not any("error" in line for line in lines), "an error, and then a good end"
        calls = [call["function"] for line in lines for call in line["message"].get("tool_calls") or ()]
        finish = "calls" if calls else lines[-1]["done_reason"]
        tokens = (lines[-1].get("prompt_eval_count", 0), lines[-1].get("eval_count", 0))
        text = "".join(line["message"]["content"] for line in lines)
        return Heard(text, [(call["name"], call["arguments"]) for call in calls], finish, tokens)

    def complaint(self, body: bytes) -> str:
        return _words(json.loads(body)["error"])


class Anthropic:
    """Messages."""

    path: Final = "/v1/messages"

    def body(self, model: str, question: Question, *, stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": question.limit,
            "messages": [_anthropic_message(turn) for turn in question.turns],
            "stream": stream,
        }
        if question.system:
            body["system"] = question.system
        if question.stop:
            body["stop_sequences"] = list(question.stop)
        if question.tools:
            body["tools"] = [{"name": n, "input_schema": schema} for n, schema in question.tools.items()]
        return body

    def heard(self, raw: Raw, *, stream: bool) -> Heard:
        if not stream:
            document = json.loads(raw.body)
            assert document["type"] == "message"
            blocks, finish, usage = document["content"], document["stop_reason"], document["usage"]
        else:
            try:
                events = [json.loads(row) for row in _sse(raw)]
            except ValueError as error:
                raise BrokenAnswerError(raw.body[-200:]) from error
            if not events or events[-1]["type"] != "message_stop":
                raise BrokenAnswerError(raw.body[-200:])
            assert not any(event["type"] == "error" for event in events), "an error, and then a good end"
            blocks, finish, usage = _anthropic_stream(events)
        finish = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "calls"}[
            finish
        ]
        return Heard(
            "".join(block["text"] for block in blocks if block["type"] == "text"),
            [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
            finish,
            (usage["input_tokens"], usage["output_tokens"]),
        )

    def complaint(self, body: bytes) -> str:
        document = json.loads(body)
        assert document["type"] == "error"
        assert (
            document["error"]["type"].endswith("_error") or document["error"]["type"] == "request_too_large"
        )
        return _words(document["error"]["message"])


TONGUES: Final[Mapping[str, Tongue]] = {"openai": OpenAI(), "ollama": Ollama(), "anthropic": Anthropic()}


def _words(message: Any) -> str:
    assert isinstance(message, str)
    assert message
    for secret in ("Traceback", "127.0.0.1", ".py", "Error("):
        assert secret not in message
    return message


def _function(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


def _openai_message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.images:
        urls = [f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in turn.images]
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        message["content"] = [{"type": "text", "text": turn.text}, *pictures]
    if turn.calls:
        message["tool_calls"] = [
            {"id": i, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, name, arguments in turn.calls
        ]
    if turn.result_of[0]:
        message["tool_call_id"] = turn.result_of[0]
    return message


def _ollama_message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.images:
        message["images"] = [base64.b64encode(one).decode() for one in turn.images]
    if turn.calls:
        message["tool_calls"] = [{"function": {"name": n, "arguments": a}} for _, n, a in turn.calls]
    if turn.result_of[0]:
        message["tool_name"] = turn.result_of[1]
    return message


def _anthropic_message(turn: Turn) -> dict[str, Any]:
    if turn.result_of[0]:
        result = {"type": "tool_result", "tool_use_id": turn.result_of[0], "content": turn.text}
        return {"role": "user", "content": [result]}
    blocks: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text else []
    for one in turn.images:
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(one).decode()}
        blocks.append({"type": "image", "source": source})
    blocks += [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in turn.calls]
    return {"role": turn.role, "content": blocks}


def _sse(raw: Raw) -> Iterator[str]:
    if not raw.whole:
        raise BrokenAnswerError(raw.body[-200:])
    for line in raw.body.decode().splitlines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


def _openai_stream(chunks: Sequence[Any]) -> tuple[str, str, list[Any], Mapping[str, int]]:
    text, finish = "", ""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    usage: Mapping[str, int] = {}
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
            for call in choice["delta"].get("tool_calls") or ():
                names.setdefault(call["index"], call["function"].get("name"))
                said = call["function"].get("arguments") or ""
                arguments[call["index"]] = arguments.get(call["index"], "") + said
    return text, finish, [(names[i], json.loads(arguments[i])) for i in sorted(names)], usage


def _anthropic_stream(events: Sequence[Any]) -> tuple[list[Any], str, Mapping[str, int]]:
    blocks: list[dict[str, Any]] = []
    usage, finish = dict(events[0]["message"]["usage"]), ""
    for event in events:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append({**event["content_block"], "input": ""})
        elif event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            block["text"] = block.get("text", "") + delta.get("text", "")
            block["input"] += delta.get("partial_json", "")
        elif event["type"] == "message_delta":
            finish = event["delta"]["stop_reason"]
            usage |= {k: v for k, v in event["usage"].items() if v}
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["input"] or "{}")
    return blocks, finish, usage


class Line:
    """One connection to a client listener, used for one request after another."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, *, reuse: bool = True
    ) -> Raw:
        """POST; fails if the connection that is to be reused was closed."""
        connection = self._connection
        before = connection.sock
        sent = {"content-type": "application/json", "anthropic-version": "2023-06-01", **(headers or {})}
        connection.request("POST", path, body=body, headers=sent)
        assert not reuse or before is None or connection.sock is before
        answer = connection.getresponse()
        named = {key.lower(): value for key, value in answer.getheaders()}
        try:
            return Raw(answer.status, named, answer.read())
        except http.client.IncompleteRead as error:
            self.close()
            return Raw(answer.status, named, error.partial, whole=False)
        except ConnectionError:
            self.close()
            return Raw(answer.status, named, b"", whole=False)

    def close(self) -> None:
        """Close it."""
        self._connection.close()
