"""Which dialects a backend speaks itself."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.backends.spoken import spoken
from swarmplane.providers import EMPTY_REQUEST


class Server:
    """Answers what it is told to, by path; whatever else is not found."""

    def __init__(self, **answers: tuple[int, bytes]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        assert body == EMPTY_REQUEST
        self.asked.append(path)
        return self.answers.get(path.rpartition("/")[2], (404, b'{"detail":"Not Found"}'))


async def test_a_backend_speaks_openai_and_what_it_was_found_to_speak() -> None:
    lacking = 400, b'{"error":{"code":400,"message":"\'messages\' is required"}}'
    server = Server(
        messages=lacking, count_tokens=lacking, responses=(422, b'{"detail":[{"loc":["body","input"]}]}')
    )
    assert await spoken("llama-server", server.ask) == {*("openai", "anthropic", "count_tokens", "responses")}
    assert await spoken("vllm", Server(messages=lacking).ask) == {"openai", "anthropic"}
    assert await spoken("openai", Server().ask) == {"openai"}


async def test_dialects_are_asked_for_beside_each_other() -> None:
    """Kills: a server that takes its time for one answer is waited for once for each dialect."""
    asked: list[str] = []
    all_asked = asyncio.Event()

    async def ask(path: str, _body: bytes) -> tuple[int, bytes]:
        asked.append(path)
        if len(asked) == 3:
            all_asked.set()
        await all_asked.wait()
        return 400, b"max_tokens"

    async with asyncio.timeout(20):
        assert await spoken("openai", ask) == {"openai", "anthropic"}
    assert len(set(asked)) == 3


async def test_ollama_is_not_asked() -> None:
    server = Server(count_tokens=(400, b"messages"))
    assert await spoken("ollama", server.ask) == {"openai", "ollama"}
    assert not server.asked


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error":"unknown endpoint"}'),
        (404, b'{"detail":"Not Found: POST /v1/messages"}'),
        (405, b""),
        (200, b'{"error":"Unexpected endpoint or method. (POST /v1/messages/count_tokens)"}'),
        (500, b"messages"),
        (0, b""),
    ],
)
async def test_who_does_not_miss_what_is_missing_does_not_speak_it(status: int, body: bytes) -> None:
    server = Server(messages=(status, body), count_tokens=(status, body), responses=(status, body))
    assert await spoken("openai", server.ask) == {"openai"}
