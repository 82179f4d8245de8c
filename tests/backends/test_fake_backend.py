"""The fault-injecting backend does what it says: faults are seen from a raw socket, shapes read as JSON."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

import pytest

from tests.fakes.backend import Behaviour, FakeBackend, running_backend

CHAT = "/v1/chat/completions"
HEAD_END = b"\r\n\r\n"


@pytest.fixture
async def backend() -> AsyncIterator[FakeBackend]:
    async with running_backend(models=("m1", "m2")) as one:
        yield one


@asynccontextmanager
async def connected(backend: FakeBackend) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", backend.port, limit=1 << 22)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def request(path: str, body: Any = None, fake: str = "", method: str = "POST") -> bytes:
    raw = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: fake\r\nx-fake: {fake}\r\ncontent-length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


async def raw(backend: FakeBackend, path: str = CHAT, fake: str = "", **body: Any) -> tuple[bytes, str]:
    """All bytes of the answer until it is whole or the connection ends, and how it ended."""
    async with connected(backend) as (reader, writer):
        writer.write(request(path, {"model": "m1", **body}, fake))
        found = b""
        try:
            async with asyncio.timeout(0.5):
                while True:
                    piece = await reader.read(65536)
                    if not piece:
                        return found, "closed"
                    found += piece
        except ConnectionError:
            return found, "reset"
        except TimeoutError:
            return found, "open"


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(HEAD_END)
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body


def unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        if not int(size, 16):
            break
        found, body = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


async def document(backend: FakeBackend, path: str, **body: Any) -> Any:
    return json.loads(split((await raw(backend, path, **body))[0])[2])


# -- faults -----------------------------------------------------------------------------------------------


async def test_a_delay_comes_before_the_head_and_between_pieces(backend: FakeBackend) -> None:
    async with connected(backend) as (reader, writer):
        begun_s = time.monotonic()
        writer.write(request(CHAT, {}, "delay_s=0.2; pieces=3; interval_s=0.1; size=300"))
        await reader.readuntil(HEAD_END)
        head_s = time.monotonic() - begun_s
        await reader.readexactly(300)
        assert head_s >= 0.19
        assert time.monotonic() - begun_s >= 0.48


async def test_a_hang_answers_nothing_and_stays(backend: FakeBackend) -> None:
    assert await raw(backend, fake="hang") == (b"", "open")


@pytest.mark.parametrize(
    ("fake", "ending"), [("reset_at", "reset"), ("close_at", "closed"), ("hang_at", "open")]
)
@pytest.mark.parametrize("at", [0, 1, 40, 150])
async def test_it_ends_at_exactly_the_byte_that_was_named(
    backend: FakeBackend, fake: str, ending: str, at: int
) -> None:
    found, how = await raw(backend, fake=f"{fake}={at}")
    assert (len(found), how) == (at, ending)


@pytest.mark.parametrize("status", [429, 503])
async def test_full_says_when_to_come_again(backend: FakeBackend, status: int) -> None:
    answer, _ = await raw(backend, fake=f"status={status}; retry_after=7")
    found, headers, body = split(answer)
    assert (found, headers["retry-after"]) == (status, "7")
    assert json.loads(body)["error"]["message"]


async def test_lengths_may_be_wrong(backend: FakeBackend) -> None:
    _, headers, body = split((await raw(backend, fake="extra_length=5"))[0])
    assert int(headers["content-length"]) == len(body) + 5


async def test_chunks_may_be_broken(backend: FakeBackend) -> None:
    answer, _ = await raw(backend, fake="bad_chunk", stream=True)
    assert b"\r\nxyz\r\n" in answer
    with pytest.raises(ValueError, match="xyz"):
        unchunked(split(answer)[2])


async def test_a_body_may_be_delimited_by_its_end_alone(backend: FakeBackend) -> None:
    answer, how = await raw(backend, fake="framing=eof")
    _, headers, body = split(answer)
    assert how == "closed"
    assert not headers.keys() & {"content-length", "transfer-encoding"}
    assert json.loads(body)["choices"]


async def test_comments_and_interim_messages_come_first(backend: FakeBackend) -> None:
    answer, _ = await raw(backend, fake="interim=x-swarm-phase: running; comments=2", stream=True)
    interim, _, rest = answer.partition(HEAD_END)
    assert interim.decode().split("\r\n") == ["HTTP/1.1 102 Processing", "x-swarm-phase: running"]
    assert unchunked(split(rest)[2]).startswith(b": waiting\n\n: waiting\n\ndata: ")


async def test_it_may_answer_before_the_body_came(backend: FakeBackend) -> None:
    async with connected(backend) as (reader, writer):
        writer.write(request(CHAT, {"model": "m1"}, "early; status=413")[:-3])
        assert b" 413 " in await reader.readuntil(HEAD_END)


async def test_raw_bytes_are_sent_as_they_are(backend: FakeBackend) -> None:
    assert (await raw(backend, fake=r"raw=NOT HTTP\r\n"))[0] == b"NOT HTTP\r\n"


async def test_a_script_is_played_once_and_what_arrived_is_told() -> None:
    async with running_backend(default=Behaviour(status=418)) as backend:
        backend.script.append(Behaviour(status=503))
        statuses = [split((await raw(backend))[0])[0] for _ in range(2)]
        assert statuses == [503, 418]
        async with connected(backend) as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
            await writer.drain()
            async with asyncio.timeout(5):
                while not backend.malformed:  # noqa: ASYNC110 - a callback counts
                    await asyncio.sleep(0.01)
        report = backend.report()
    assert (len(report["requests"]), report["malformed"]) == (2, 1)


# -- shapes -----------------------------------------------------------------------------------------------


async def test_openai_shapes(backend: FakeBackend) -> None:
    chat = await document(backend, CHAT)
    assert (chat["object"], chat["choices"][0]["message"]["content"]) == ("chat.completion", "Hello")
    text = await document(backend, "/v1/completions")
    assert (text["object"], text["choices"][0]["text"]) == ("text_completion", "Hello")
    vectors = await document(backend, "/v1/embeddings", input="x")
    assert len(vectors["data"][0]["embedding"]) == 3
    _, headers, body = split((await raw(backend, fake="chunks=3", stream=True))[0])
    events = unchunked(body).decode().split("\n\n")
    assert headers["content-type"] == "text/event-stream"
    assert [json.loads(one[6:])["choices"][0]["delta"]["content"] for one in events[:3]] == [
        " word0",
        " word1",
        " word2",
    ]
    assert events[3:] == ["data: [DONE]", ""]


@pytest.mark.parametrize(("path", "member"), [("/api/chat", "message"), ("/api/generate", "response")])
async def test_ollama_streams_unless_it_is_told_not_to(backend: FakeBackend, path: str, member: str) -> None:
    _, headers, body = split((await raw(backend, path, fake="chunks=2"))[0])
    lines = [json.loads(line) for line in unchunked(body).splitlines()]
    assert headers["content-type"] == "application/x-ndjson"
    assert [line["done"] for line in lines] == [False, False, True]
    assert (lines[-1]["done_reason"], lines[-1]["eval_count"]) == ("stop", 2)
    assert all(member in line for line in lines)
    whole = await document(backend, path, stream=False)
    assert (whole["done"], whole["model"]) == (True, "m1")


async def test_ollama_says_what_it_has_and_how_it_failed(backend: FakeBackend) -> None:
    async def shown(path: str) -> Any:
        async with connected(backend) as (reader, writer):
            writer.write(request(path, method="GET"))
            head = await reader.readuntil(HEAD_END)
            length = next(
                int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length")
            )
            return json.loads(await reader.readexactly(length))

    assert [one["name"] for one in (await shown("/api/tags"))["models"]] == ["m1", "m2"]
    assert [one["name"] for one in (await shown("/api/ps"))["models"]] == ["m1", "m2"]
    assert await document(backend, "/api/embed", input="x") == {
        "model": "m1",
        "embeddings": [[0.25, -0.5, 1.0]],
        "prompt_eval_count": 1,
    }
    failed = split((await raw(backend, "/api/chat", fake="status=500"))[0])
    assert (failed[0], json.loads(failed[2])) == (500, {"error": "fake failure"})


async def test_a_stream_without_its_end_has_none(backend: FakeBackend) -> None:
    for path in (CHAT, "/api/chat"):
        body = unchunked(split((await raw(backend, path, fake="chunks=2; done=0", stream=True))[0])[2])
        assert b"[DONE]" not in body
        assert b'"done": true' not in body


# -- alone ------------------------------------------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[str]:
    """URL of the backend as its own process, which is full once and then well."""
    words = ["--model", "big", "--next", "status=429; retry_after=3"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.backend", *words], stdout=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(popen.stdout.readline())}"
        finally:
            popen.kill()


@pytest.mark.process
def test_it_runs_alone(process: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPHandler())

    def ask() -> int:
        try:
            with opener.open(urllib.request.Request(process + CHAT, b"{}", method="POST"), timeout=10) as got:
                return int(got.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert [ask(), ask()] == [429, 200]
    with opener.open(process + "/fake", timeout=10) as answer:
        assert len(json.load(answer)["requests"]) >= 2


@pytest.mark.process
def test_its_help_names_every_field() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.backend", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    for one in fields(Behaviour):
        line = next(line for line in done.stdout.splitlines() if line.strip().split(" ")[0] == one.name)
        assert len(line.split()) > 2, f"{one.name} is not explained"
