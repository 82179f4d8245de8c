"""What putting a request and a stream into another dialect costs, in CPU time of one process.

``python bench/dialects.py [--json]``: microseconds per chunk of a stream for each pair of dialects, and
milliseconds per request by the size of its body. Passing a chunk on as it is costs nothing here, so this is
what a translated stream costs more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sidecar.dialects.translate import Outgoing, translate
from swarmplane.interpreter import interpreter_here

CHUNKS = 20_000
ROUNDS = 5
GOAL_US = 6.0
HI = [{"role": "user", "content": "hi"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 100},
    "/api/chat": {"messages": HI},
    "/api/generate": {"prompt": "hi"},
}
WAYS = (
    ("/v1/chat/completions", "ollama"),
    ("/v1/completions", "ollama"),
    ("/v1/responses", "ollama"),
    ("/v1/messages", "ollama"),
    ("/v1/responses", "openai"),
    ("/v1/messages", "openai"),
    ("/api/chat", "openai"),
    ("/api/generate", "openai"),
)


def asked(path: str, backend: str, body: dict[str, Any]) -> Outgoing:
    """A request to ``path`` for a backend that speaks ``backend``."""
    return translate(
        path.encode(),
        json.dumps({"model": "llama3.2", "stream": True, **body}).encode(),
        spoken=frozenset({backend}),
        model="llama3.2:3b",
        asked="llama3.2",
        answer_id="0123456789abcdef",
        now_s=1_700_000_000,
    )


def chunk(path: str, backend: str, number: int) -> bytes:
    """One token as the backend sends it: 150 to 250 bytes."""
    text = f" word{number}"
    if backend == "ollama":
        told = (
            {"response": text}
            if path == "/v1/completions"
            else {"message": {"role": "assistant", "content": text}}
        )
        line = {"model": "llama3.2:3b", "created_at": "2026-01-01T00:00:00.123456Z", **told, "done": False}
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"
    event = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "meta-llama/Llama-3.2-3B-Instruct",
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}],
    }
    return b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode()


def chunk_us(path: str, backend: str) -> float:
    """CPU time per chunk, the best of some rounds."""
    chunks = [chunk(path, backend, number) for number in range(CHUNKS)]
    best = float("inf")
    for _ in range(ROUNDS):
        push = asked(path, backend, REQUESTS[path]).answer.push
        size, began = 0, time.process_time()
        for one in chunks:
            size += len(push(one))
        best = min(best, time.process_time() - began)
        if size < CHUNKS * 50:
            sys.exit(f"{path}: the stream came out as {size} bytes")
    return best / CHUNKS * 1e6


def request_ms(path: str, backend: str, kilobytes: int) -> float:
    """CPU time to put a conversation of so many kilobytes into the other dialect."""
    turn = [{"role": "user", "content": "word " * 200}, {"role": "assistant", "content": "word " * 200}]
    body = REQUESTS[path] | {"messages": turn * max(1, kilobytes // 2)}
    rounds = max(3, 2_000 // kilobytes)
    began = time.process_time()
    for _ in range(rounds):
        asked(path, backend, body)
    encoding_s = time.process_time()
    for _ in range(rounds):
        json.dumps({"model": "llama3.2", "stream": True, **body}).encode()
    done = time.process_time()
    return ((encoding_s - began) - (done - encoding_s)) / rounds * 1e3


def main() -> None:
    """Measure and print; exit 1 when a chunk costs more than the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = [
        {"path": path, "backend": backend, "chunk_us": round(chunk_us(path, backend), 2)}
        for path, backend in WAYS
    ]
    sizes: list[dict[str, Any]] = [
        {"path": path, "backend": backend, "kb": kb, "request_ms": round(request_ms(path, backend, kb), 3)}
        for path, backend in (("/v1/chat/completions", "ollama"), ("/v1/messages", "openai"))
        for kb in (2, 16, 128, 1024)
    ]
    python = str(interpreter_here())
    if chosen.json:
        print(json.dumps({"python": python, "goal_us": GOAL_US, "chunks": rows, "requests": sizes}, indent=2))
    else:
        print(python)
        for row in rows:
            print(f"{row['path']:24} {row['backend']:8} {row['chunk_us']:6.2f} us a chunk (goal {GOAL_US:g})")
        for row in sizes:
            print(
                f"{row['path']:24} {row['backend']:8} {row['kb']:5} KB {row['request_ms']:8.3f} ms a request"
            )
    if any(float(row["chunk_us"]) > GOAL_US for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
