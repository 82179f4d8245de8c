"""Answers as OpenAI's and Ollama's servers write them, for the fake backend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_AT = "2026-01-01T00:00:00Z"
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def is_ollama(target: str) -> bool:
    return target.startswith("/api/")


def streams(target: str, asked: dict[str, Any]) -> bool:
    """Whether a request wants a stream: Ollama's do unless they say no."""
    if target.partition("?")[0] in {"/api/chat", "/api/generate"}:
        return asked.get("stream") is not False
    return bool(asked.get("stream"))


def stream_type(target: str) -> str:
    return "application/x-ndjson" if is_ollama(target) else "text/event-stream"


def listing(target: str, models: Sequence[str]) -> dict[str, Any] | None:
    """What a GET shows; None where there is nothing of the kind.

    No version of Ollama: for what it knows of OpenAI's interface it would be taken for one of its servers.
    """
    path = target.partition("?")[0]
    if path in {"/api/tags", "/api/ps"}:
        details = {"format": "gguf", "family": "fake", "parameter_size": "1B", "quantization_level": "Q4_0"}
        rows = [
            {"name": n, "model": n, "size": 1_000_000, "digest": "0" * 64, "details": details} for n in models
        ]
        return {
            "models": [{**row, "size_vram": 0, "expires_at": _AT} for row in rows]
            if path == "/api/ps"
            else rows
        }
    if path.startswith("/v1/models"):
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}
    return None


def plain(target: str, model: str) -> dict[str, Any]:
    """A whole answer to a POST."""
    path = target.partition("?")[0]
    if is_ollama(path):
        return _ollama_plain(path, model)
    if path.endswith("/embeddings"):
        row = {"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1.0]}
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return {"object": "list", "model": model, "data": [row], "usage": usage}
    if path == "/v1/completions":
        choice: dict[str, Any] = {"index": 0, "text": "Hello", "finish_reason": "stop"}
        kind = "text_completion"
    else:
        message = {"role": "assistant", "content": "Hello"}
        choice, kind = {"index": 0, "message": message, "finish_reason": "stop"}, "chat.completion"
    return {"id": "c1", "object": kind, "model": model, "choices": [choice], "usage": _USAGE}


def event(target: str, model: str, number: int) -> str:
    """One event of a stream, without what frames it."""
    path, word = target.partition("?")[0], f" word{number}"
    if is_ollama(path):
        return json.dumps({"model": model, "created_at": _AT, **_said(path, word), "done": False})
    if path == "/v1/completions":
        choice: dict[str, Any] = {"index": 0, "text": word, "finish_reason": None}
        kind = "text_completion"
    else:
        choice, kind = (
            {"index": 0, "delta": {"content": word}, "finish_reason": None},
            "chat.completion.chunk",
        )
    return json.dumps({"id": "c1", "object": kind, "model": model, "choices": [choice]})


def framed(target: str, text: str, size: int = 0) -> bytes:
    """``text`` as a stream carries it, padded to ``size`` bytes."""
    padded = (text + " " * max(0, size - len(text))).encode()
    return padded + b"\n" if is_ollama(target) else b"data: %b\n\n" % padded


def end(target: str, model: str, count: int) -> bytes:
    """What ends a stream of ``count`` events."""
    if not is_ollama(target):
        return b"data: [DONE]\n\n"
    path = target.partition("?")[0]
    done = {"model": model, "created_at": _AT, **_said(path, ""), **_ollama_figures(count)}
    return framed(target, json.dumps(done))


def error(target: str) -> dict[str, Any]:
    """A failure, in the dialect asked in."""
    if is_ollama(target):
        return {"error": "fake failure"}
    return {"error": {"message": "fake failure", "type": "fake", "code": None}}


def _said(path: str, text: str) -> dict[str, Any]:
    return (
        {"response": text} if path == "/api/generate" else {"message": {"role": "assistant", "content": text}}
    )


def _ollama_figures(count: int) -> dict[str, Any]:
    durations = {"total_duration": 5_000_000, "load_duration": 1_000_000, "eval_duration": 3_000_000}
    return {"done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": count, **durations}


def _ollama_plain(path: str, model: str) -> dict[str, Any]:
    if path == "/api/embed":
        return {"model": model, "embeddings": [[0.25, -0.5, 1.0]], "prompt_eval_count": 1}
    if path == "/api/embeddings":
        return {"embedding": [0.25, -0.5, 1.0]}
    if path == "/api/show":
        info = {"general.architecture": "fake", "fake.context_length": 4096}
        return {"details": {"family": "fake"}, "model_info": info, "capabilities": ["completion"]}
    return {"model": model, "created_at": _AT, **_said(path, "Hello"), **_ollama_figures(1)}
