"""Which dialects a backend speaks itself."""

from __future__ import annotations

import pytest

from sidecar.backends.spoken import speaks_anthropic, spoken


def test_every_kind_speaks_openai_and_ollama_its_own_too() -> None:
    assert spoken("vllm") == {"openai"}
    assert spoken("ollama") == {"openai", "ollama"}
    assert spoken("llama-server", anthropic=True) == {"openai", "anthropic"}


@pytest.mark.parametrize(
    ("status", "body", "speaks"),
    [
        (400, b'{"error":{"code":400,"message":"\'messages\' is required"}}', True),
        (422, b'{"detail":[{"loc":["body","model"],"msg":"Field required"}]}', True),
        (400, b'{"error":"unknown endpoint"}', False),
        (404, b'{"detail":"Not Found: POST /v1/messages"}', False),
        (405, b"", False),
        (200, b'{"error":"Unexpected endpoint or method. (POST /v1/messages/count_tokens)"}', False),
        (500, b"messages", False),
    ],
)
def test_who_refuses_an_empty_request_by_its_fields_would_read_a_full_one(
    status: int, body: bytes, *, speaks: bool
) -> None:
    assert speaks_anthropic(status, body) is speaks
