"""Audio and images cross the hop byte for byte: forms with files in, binary answers out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from tests.fakes.dataplane import Client, Served, TestSwarm, client, running_node

KIND = "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk"
EDGE = b"--" + KIND.partition("boundary=")[2].encode()
SOUND = b"RIFF\x24\x08\x00\x00WAVEfmt \r\n--not-a-boundary\r\n" + os.urandom(300_000) + b"\r\n"


@dataclass
class Studio:
    """A backend that keeps what it was sent and answers what it is told."""

    content_type: str = "application/json"
    answer: bytes = b'{"text":"hello"}'
    chunked: bool = False
    status: int = 200
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:-2])
                kind = headers["content-type"]
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.seen.append((head[0].split(" ")[1], kind, body))
                writer.write(self._said())
                await writer.drain()
        writer.close()

    def _said(self) -> bytes:
        lines = f"HTTP/1.1 {self.status} X\r\ncontent-type: {self.content_type}\r\n"
        if not self.chunked:
            return f"{lines}content-length: {len(self.answer)}\r\n\r\n".encode() + self.answer
        parts = [self.answer[at : at + 7000] for at in range(0, len(self.answer), 7000)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return f"{lines}transfer-encoding: chunked\r\n\r\n".encode() + framed + b"0\r\n\r\n"


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    one = Studio()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, limit=1 << 20)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()


@pytest.fixture
async def far(swarm: TestSwarm, studio: Studio) -> AsyncIterator[Client]:
    """A client of a host that has nothing; the one that has it spells the name its own way."""
    served = {"one": Served(studio.port, model="Systran/whisper-1", canonical="whisper-1", context=0)}
    async with running_node("a", swarm=swarm) as a, running_node("b", served, swarm=swarm), client(a) as http:
        swarm.connect()
        yield http


def part(name: str, value: bytes, more: bytes = b"") -> bytes:
    head = b'\r\ncontent-disposition: form-data; name="%b"%b\r\n\r\n' % (name.encode(), more)
    return EDGE + head + value + b"\r\n"


def form(model: str, file: bytes, **fields: str) -> bytes:
    sound = part("file", file, b'; filename="a.wav"\r\nContent-Type: audio/wav')
    others = b"".join(part(name, value.encode()) for name, value in fields.items())
    return others + sound + part("model", model.encode()) + EDGE + b"--\r\n"


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"])
async def test_a_file_reaches_the_node_that_has_the_model(far: Client, studio: Studio, path: str) -> None:
    for _ in range(2):
        answer = await far.ask(form("whisper-1", SOUND, language="en"), path, content_type=KIND)
        assert (answer.status, answer.json, answer.headers["x-swarm-node"]) == (200, {"text": "hello"}, "b")
    assert studio.seen == [(path, KIND, form("Systran/whisper-1", SOUND, language="en"))] * 2


async def test_words_as_text_and_as_events_pass(far: Client, studio: Studio) -> None:
    studio.content_type, studio.answer = "text/plain; charset=utf-8", "1\n00:00 → héllo\n".encode()
    answer = await far.ask(form("whisper-1", SOUND), "/v1/audio/transcriptions", content_type=KIND)
    assert (answer.status, answer.body) == (200, studio.answer)
    assert answer.headers["content-type"] == studio.content_type
    studio.content_type, studio.chunked = "text/event-stream", True
    studio.answer = b'data: {"type":"x.delta","delta":"hi"}\n\ndata: {"type":"x.done"}\n\n'
    streamed = await far.ask(
        form("whisper-1", SOUND, stream="true"), "/v1/audio/transcriptions", content_type=KIND
    )
    assert (streamed.status, streamed.whole) == (200, True)
    assert streamed.body == studio.answer


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 5_000, 3_000_000])
async def test_speech_comes_back_as_it_was_made(
    far: Client, studio: Studio, chunked: bool, size: int
) -> None:
    studio.answer, studio.content_type = os.urandom(size), "audio/mpeg"
    studio.chunked = chunked
    asked = {"model": "whisper-1", "input": "Hello", "voice": "alloy"}
    answer = await far.ask(asked, "/v1/audio/speech")
    assert (answer.status, answer.headers["content-type"], answer.whole) == (200, "audio/mpeg", True)
    assert answer.body == studio.answer
    assert json.loads(studio.seen[0][2]) == {**asked, "model": "Systran/whisper-1"}


async def test_pictures_are_made_once(far: Client, studio: Studio) -> None:
    """What costs so much is not sent again when it may have been done."""
    asked = {"model": "whisper-1", "prompt": "a cat", "n": 1, "response_format": "b64_json"}
    studio.answer = json.dumps({"created": 1, "data": [{"b64_json": "QUJD" * 500_000}]}).encode()
    answer = await far.ask(asked, "/v1/images/generations")
    assert answer.status == 200
    assert answer.body == studio.answer
    studio.status = 500
    failed = await far.ask(asked, "/v1/images/generations")
    assert failed.status >= 500
    assert len(studio.seen) == 2


async def test_a_form_without_a_model_or_with_another_is_refused(far: Client, studio: Studio) -> None:
    nameless = part("file", b"x") + EDGE + b"--\r\n"
    for body, status in ((nameless, 400), (form("other", b"x"), 404)):
        answer = await far.ask(body, "/v1/audio/transcriptions", content_type=KIND)
        assert answer.status == status
        assert answer.json["error"]["message"]
    assert not studio.seen
