"""Files for models that are to be created pass to this host's Ollama as they come, and are held nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from swarmplane.ids import BackendName
from tests.fakes.dataplane import Node, Served, client, eventually, running_node
from tests.store.etcd_certificates import TestAuthority

FILE = b"GGUF" + bytes(range(256)) * 40_000  # 10 MB
DIGEST = f"sha256:{hashlib.sha256(FILE).hexdigest()}"
PATH = f"/api/blobs/{DIGEST}"


@dataclass
class Shelf:
    """What of Ollama takes files: checks them by their digest."""

    blobs: set[str] = field(default_factory=set)
    received: int = 0
    heads: list[str] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0
    refuses: bool = False
    stays: bool = False
    """Whether it keeps a connection that it was asked to close."""
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            method, path, _ = head.split(" ", 2)
            digest = path.rpartition("/")[2]
            if method == "HEAD":
                status = 200 if digest in self.blobs else 404
            elif self.refuses:
                status = 507
            else:
                status = await self._take(head, reader, digest)
            words = b'{"error":"digest mismatch"}' if status == 400 else b""
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(words)}\r\n\r\n".encode() + words)
            await writer.drain()
            if self.stays:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left += 1
        finally:
            writer.close()

    async def _take(self, head: str, reader: asyncio.StreamReader, digest: str) -> int:
        found = hashlib.sha256()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
        if "content-length" in headers:
            await self._read(reader, int(headers["content-length"]), found.update)
        else:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await self._read(reader, size, found.update)
                assert await reader.readexactly(2) == b"\r\n"
            assert await reader.readexactly(2) == b"\r\n"
        if f"sha256:{found.hexdigest()}" != digest:
            return 400
        self.blobs.add(digest)
        return 201

    async def _read(self, reader: asyncio.StreamReader, left: int, take: Callable[[bytes], None]) -> None:
        while left:
            await self.reading.wait()
            data = await reader.read(min(left, 65_536))
            if not data:
                raise ConnectionResetError
            take(data)
            self.received += len(data)
            left -= len(data)


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    one = Shelf()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, limit=1 << 16)
    one.port = server.sockets[0].getsockname()[1]
    one.reading.set()
    try:
        yield one
    finally:
        server.close()


@pytest.fixture
async def host(shelf: Shelf) -> AsyncIterator[Node]:
    served = {"one": Served(shelf.port, "m1:latest", "m1", kind="ollama")}
    async with running_node(served=served, max_json_bytes=1000) as node:
        yield node


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_backend_behind_tls_is_trusted_by_the_authority_that_it_names(
    host: Node, shelf: Shelf, tmp_path: Path, *, trusted: bool
) -> None:
    """Kills: the machine's own authorities alone, or none."""
    signer = TestAuthority()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(signer.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*signer.pair("shelf").write(tmp_path, "shelf"))
    server = await asyncio.start_server(shelf.serve, "127.0.0.1", 0, ssl=context)
    target = replace(
        host.backends.targets[BackendName("one")],
        port=server.sockets[0].getsockname()[1],
        tls=True,
        ca_file=ca_file if trusted else None,
    )
    host.backends.targets = {target.name: target}
    async with server, client(host) as http:
        http.send(head("POST", PATH, SIZED) + FILE)
        assert (await http.answer()).status == (201 if trusted else 502)


def head(method: str = "POST", path: str = PATH, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode()


SIZED = f"content-length: {len(FILE)}"
PARTS = (FILE[:70_001], FILE[70_001:], b"")
CHUNKS = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in PARTS)


@pytest.mark.parametrize(
    ("lines", "body"), [((SIZED,), FILE), (("transfer-encoding: chunked",), CHUNKS)], ids=["sized", "chunked"]
)
async def test_a_file_larger_than_any_body_may_be_arrives(
    host: Node, shelf: Shelf, lines: tuple[str, ...], body: bytes
) -> None:
    async with client(host) as http:
        assert (await http.get(PATH, "HEAD")).status == 404
        http.send(head("POST", PATH, *lines, "authorization: Bearer x") + body)
        answer = await http.answer()
        assert (answer.status, answer.body) == (201, b"")
        assert answer.headers["x-swarm-backend"] == "one"
        assert "connection" not in answer.headers
        assert (await http.get(PATH, "HEAD")).status == 200
        # The connection goes on, and files count as no body that is held.
        assert (await http.get("/healthz")).status == 200
    assert shelf.received == len(FILE)
    assert "authorization" not in shelf.heads[1]
    assert host.plane.buffered_bytes == 0


async def test_the_client_is_read_no_faster_than_the_backend_takes_it(host: Node, shelf: Shelf) -> None:
    """Kills: a queue without bound; reading that is paused for ever."""
    shelf.reading.clear()
    # Several times what stands in sockets on the way, which Linux lets grow to some megabytes each.
    pieces, piece = 96, bytes(1024 * 1024)
    digest = f"sha256:{hashlib.sha256(piece * pieces).hexdigest()}"
    async with client(host) as http:
        http.send(head("POST", f"/api/blobs/{digest}", f"content-length: {pieces * len(piece)}"))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < pieces:
                sent += 1
                http.send(piece)
                async with asyncio.timeout(0.5):
                    await http.writer.drain()
        assert sent < pieces
        shelf.reading.set()
        while sent < pieces:
            sent += 1
            http.send(piece)
            await http.writer.drain()
        assert (await http.answer()).status == 201
    assert shelf.blobs == {digest}


async def test_what_the_backend_says_of_it_is_told(host: Node, shelf: Shelf) -> None:
    async with client(host) as http:
        wrong = PATH[:-1] + ("0" if PATH[-1] != "0" else "1")
        http.send(head("POST", wrong, "content-length: 4") + b"GGUF")
        answer = await http.answer()
        assert (answer.status, answer.json) == (400, {"error": "digest mismatch"})
        shelf.refuses = True
        http.send(head("POST", PATH, SIZED, "expect: 100-continue"))
        early = await http.answer()
        assert early.interim[0][0] == 100
        assert early.status in {502, 507}


async def test_who_leaves_leaves_nothing_behind(host: Node, shelf: Shelf) -> None:
    async with client(host) as http:
        http.send(head("POST", PATH, SIZED) + FILE[:100_000])
        await eventually(lambda: shelf.received == 100_000, "it goes on at once")
    await eventually(lambda: shelf.left == 1, "the backend is told")
    assert not shelf.blobs


async def test_the_answer_counts_when_it_is_whole(host: Node, shelf: Shelf) -> None:
    shelf.stays = True
    async with client(host) as http:
        for method, status in (("HEAD", 404), ("POST", 201), ("HEAD", 200)):
            http.send(head(method, PATH, *((SIZED,) if method == "POST" else ())))
            if method == "POST":
                http.send(FILE)
            answer = await http.answer(head_only=method == "HEAD")
            assert answer.status == status


@pytest.mark.parametrize(
    "path", ["../delete", "../../v1/chat/completions", "", "sha256:zz", f"{DIGEST}/../x", f"{DIGEST}?x=../y"]
)
async def test_a_file_is_named_by_its_digest_alone(host: Node, shelf: Shelf, path: str) -> None:
    async with client(host) as http:
        http.send(head("POST", f"/api/blobs/{path}", "content-length: 2") + b"{}")
        assert (await http.answer()).status == 404
    assert not shelf.heads


async def test_a_backend_that_is_away_is_said(shelf: Shelf) -> None:
    served = {"one": Served(1, "m1:latest", "m1", kind="ollama")}
    async with running_node(served=served) as node, client(node) as http:
        http.send(head("POST", PATH, "content-length: 4") + b"GGUF")
        answer = await http.answer()
        assert (answer.status, answer.json["error"]) == (502, "this host's Ollama did not take the file")
    assert not shelf.heads


@pytest.mark.parametrize(
    ("method", "line", "status"),
    [
        ("POST", "x-forwarded-for: 192.0.2.7", 403),
        ("POST", "origin: https://evil.example", 403),
        ("POST", "origin: http://localhost:3000", 201),
        ("HEAD", "x-forwarded-for: 192.0.2.7", 403),
        ("PUT", "x-a: b", 413),
        ("GET", "x-a: b", 413),
    ],
)
async def test_who_may_and_how(host: Node, shelf: Shelf, method: str, line: str, status: int) -> None:
    async with client(host) as http:
        sized = () if method == "HEAD" else (SIZED,)
        http.send(head(method, PATH, line, *sized) + (FILE if sized and status == 201 else b""))
        answer = await http.answer(head_only=method == "HEAD")
        assert answer.status == status
        if status == 201:
            assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        else:
            assert answer.headers["connection"] == "close"
    assert len(shelf.heads) == (status == 201)


async def test_without_an_ollama_or_behind_another_request_it_is_refused(host: Node, shelf: Shelf) -> None:
    async with running_node(served={"one": Served(shelf.port)}) as node, client(node) as http:
        http.send(head("POST", PATH, "content-length: 4") + b"GGUF")
        answer = await http.answer()
        assert (answer.status, "Ollama" in answer.json["error"]) == (400, True)
    shelf.reading.clear()
    async with client(host) as http:
        http.send(head("POST", PATH, "content-length: 4") + b"GGUF" + head("HEAD", PATH))
        await asyncio.sleep(0.05)
        shelf.reading.set()
        assert (await http.answer()).status == 400
        assert (await http.answer(head_only=True)).status == 400
