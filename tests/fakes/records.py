"""Records of requests, as the data plane fills them."""

from __future__ import annotations

from typing import Any

from sidecar.telemetry.record import COMPLETED, Record

TAIL = (
    b'data: {"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":11}}\n\n'
    b"data: [DONE]\n\n"
)


def fill(record: Record, **changes: Any) -> Record:
    """Fill ``record`` with a streamed answer of ours that took two seconds, but for ``changes``."""
    record.begin(b"POST", b"/v1/chat/completions", b"req-1", COMPLETED, 100.0, 102.0)
    record.unsent(200, 321, 4321)
    record.planned_s, record.sent_s, record.first_byte_s = 100.001, 100.002, 101.0
    record.attempts, record.streamed, record.tail = 1, True, TAIL
    record.asked, record.model, record.node, record.backend = "Tiny:latest", "tiny", "desk", "srv"
    record.endpoint, record.client, record.route_version = "desk/srv/tiny", "127.0.0.1", "1.7"
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def rejected(code: str, status: int, **changes: Any) -> dict[str, Any]:
    """Changes that make a request one that we answered with an error of our own."""
    return {
        "outcome": "rejected",
        "code": code,
        "status": status,
        "tail": b"",
        "streamed": False,
        "first_byte_s": 0.0,
        "node": "",
        **changes,
    }
