"""A backend of OpenAI's and Ollama's shapes that fails on request: ``python -m tests.fakes.backend``.

What a request gets is chosen by its ``x-fake`` header (``delay_s=0.1; status=503``: fields of
:class:`Behaviour`), else by the next entry of :attr:`FakeBackend.script`, else by the default. All that
arrives is recorded, and parsed by a strict reader of its own, so that smuggled or broken requests show.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import inspect
import json
import os
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tests.fakes import shapes
from tests.fakes.voices import Options, Voice


@dataclass(frozen=True)
class Behaviour:
    """How one request is answered. Sizes count bytes of the raw answer, head included."""

    status: int = 200
    """Of the answer; errors have an error's body."""
    delay_s: float = 0.0
    """Before the head."""
    hang: bool = False
    """No answer, ever."""
    chunks: int = 0
    """Events of a stream; 0: as the request asks (8 or none)."""
    interval_s: float = 0.0
    """Between events, or between pieces of a body."""
    framing: str = ""
    """``length``, ``chunked`` or ``eof``; empty: length for plain answers, chunked for streams."""
    body: str = ""
    """Instead of the usual one."""
    size: int = 0
    """Pads the body to this many bytes."""
    retry_after: str = ""
    """Value of that header, as with 429 and 503."""
    reset_at: int = -1
    """Cut the connection (RST) after so many bytes."""
    close_at: int = -1
    """Close it (FIN) after so many bytes."""
    hang_at: int = -1
    """Send nothing more after so many bytes, and keep the connection."""
    extra_length: int = 0
    """Added to the announced length."""
    bad_chunk: bool = False
    """A chunk size that is no number, in mid-stream."""
    done: bool = True
    """Whether a stream ends with ``[DONE]``."""
    model: str = ""
    """Named in the answer instead of the asked one."""
    raw: str = ""
    """Sent as it is, with escapes; nothing else is. Record separators, which are not sent, cut it."""
    close: bool = False
    """``connection: close``."""
    content_type: str = ""
    """Instead of the usual one."""
    pieces: int = 1
    """Writes a plain body is cut into."""
    comments: int = 0
    """SSE comments before the first event."""
    early: bool = False
    """Answer as soon as the head is there, without reading the body."""
    interim: str = ""
    """Header lines of a 102 sent first."""
    usage: bool = True
    """Whether tokens are counted in the answer; of a backend with a voice."""
    stop_after: int = -1
    """End a stream properly after so many events, but without its end marker; of a backend with a voice."""
    fail_after: int = -1
    """Say in the stream, after so many events, that something failed, and end; of a backend with a voice."""
    junk_after: int = -1
    """Send an event that can't be read after so many; of a backend with a voice."""


_PROBED = frozenset({"/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/v1/embeddings"})
"""Where an empty request only asks what a backend can do."""


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    at_s: float
    disconnected_s: float | None = None
    """When the other side left before the answer was whole."""
    answered_s: float | None = None
    """When the answer was written whole."""

    @property
    def probes(self) -> bool:
        """Whether it only asks for a dialect, or for embeddings."""
        return self.body == b"{}" and self.target in _PROBED

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class FakeBackend:
    """State of a running backend."""

    models: Sequence[str] = ("m1",)
    default: Behaviour = field(default_factory=Behaviour)
    idle_close_s: float = 0.0
    """Close connections that are idle after an answer for so long; 0: never."""
    script: deque[Behaviour] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)
    malformed: list[bytes] = field(default_factory=list)
    open_connections: int = 0
    connections: int = 0
    bytes_written: int = 0
    port: int = 0
    most_running: int = 0
    """Requests answered at a time, at most so far."""
    voice: Voice | None = None
    """Who answers; None: the simple shapes."""
    _server: asyncio.Server | None = None
    _live: set[_Connection] = field(default_factory=set)

    @property
    def asked(self) -> list[Seen]:
        """Requests other than health checks and listings."""
        return [seen for seen in self.seen if seen.method == "POST" and not seen.probes]

    context: ssl.SSLContext | None = None
    """Speak TLS."""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), host, port, backlog=1024, ssl=self.context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._live):
            connection.cut()
        await asyncio.sleep(0)

    @property
    def running(self) -> int:
        """Requests that are being answered now."""
        return sum(one.busy is not None for one in self._live)

    def told(self, body: bytes) -> None:
        """``POST /fake``: behaviour of the requests to come, as from another process."""
        orders = json.loads(body)
        if "default" in orders:
            self.default = parse_behaviour(orders["default"], Behaviour())
        for name, value in orders.get("voice", {}).items():
            setattr(self.voice, name, value)
        self.script.extend(parse_behaviour(one, self.default) for one in orders.get("next", ()))
        for name, value in orders.get("voice", {}).items():
            setattr(self.voice, name, value)

    def behaviour(self, seen: Seen) -> Behaviour:
        if seen.target == "/fake":
            return Behaviour()
        if seen.probes:
            return Behaviour(status=404)
        if seen.method == "POST":
            self.most_running = max(self.most_running, self.running)
        wish = seen.header("x-fake")
        if wish:
            return parse_behaviour(wish, self.default)
        if seen.method == "POST" and self.script:
            return self.script.popleft()
        return self.default if seen.method == "POST" else Behaviour()

    def report(self) -> dict[str, Any]:
        return {
            "open_connections": self.open_connections,
            "connections": self.connections,
            "malformed": len(self.malformed),
            "voice": self.voice.report() if self.voice is not None else None,
            "requests": [
                {
                    "method": seen.method,
                    "target": seen.target,
                    "headers": dict(seen.headers),
                    "body": seen.body.decode("utf-8", "replace"),
                    "at_s": seen.at_s,
                    "disconnected_s": seen.disconnected_s,
                }
                for seen in self.seen
            ],
        }


def parse_behaviour(text: str, default: Behaviour) -> Behaviour:
    kinds = {one.name: type(getattr(default, one.name)) for one in fields(default)}
    changes: dict[str, Any] = {}
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            kind = kinds[name]
            changes[name] = value in {"1", "true", ""} if kind is bool else kind(value)
    return replace(default, **changes)


@contextlib.asynccontextmanager
async def running_backend(**state: Any) -> AsyncIterator[FakeBackend]:
    backend = FakeBackend(**state)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


class MalformedError(Exception):
    pass


_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def read_head(head: bytes) -> tuple[str, str, list[tuple[str, str]]]:
    """A strict reading of a request's head: anything that could be read in two ways is refused."""
    try:
        lines = head.decode("ascii", "strict").split("\r\n")
    except UnicodeDecodeError:
        lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if (
        len(parts) != 3
        or parts[2] != "HTTP/1.1"
        or not (parts[0].isalpha() and parts[0].isupper())
        or not parts[1].startswith("/")
    ):
        raise MalformedError(lines[0])
    headers: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or not set(name) <= _TOKEN or any(c in value for c in "\r\n\0"):
            raise MalformedError(line)
        headers.append((name.lower(), value.strip()))
    names = [name for name, _ in headers]
    if names.count("host") != 1 or names.count("content-length") > 1:
        raise MalformedError("host or length")
    if "transfer-encoding" in names and "content-length" in names:
        raise MalformedError("both framings")
    return parts[0], parts[1], headers


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, backend: FakeBackend) -> None:
        self.backend = backend
        self.buffer = bytearray()
        self.busy: Seen | None = None
        self.number = 0
        self.timers: list[asyncio.TimerHandle] = []
        self.written = 0
        self.paused = False
        self.pending: deque[tuple[float, bytes]] = deque()
        self.finish = ""
        self.limit = -1
        self.early: Seen | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.backend.connections += 1
        self.backend.open_connections += 1
        self.number = self.backend.connections
        self.backend._live.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.backend.open_connections -= 1
        self.backend._live.discard(self)
        self.left()

    def eof_received(self) -> bool | None:
        self.left()
        if self.buffer:
            self.backend.malformed.append(bytes(self.buffer[:4096]))
        return None

    def left(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        if self.busy is not None and self.busy.disconnected_s is None:
            self.busy.disconnected_s = time.time()
        self.busy = None

    def cut(self) -> None:
        self.busy = None
        self.left()
        self.transport.abort()

    def later(self, seconds: float, act: Any, *values: Any) -> None:
        self.timers = [timer for timer in self.timers if not timer.cancelled()][-8:]
        self.timers.append(asyncio.get_running_loop().call_later(seconds, act, *values))

    def wait_idle(self) -> None:
        if self.backend.idle_close_s:
            self.later(self.backend.idle_close_s, self.close_if_idle)

    def close_if_idle(self) -> None:
        if self.busy is None and not self.buffer:
            self.transport.close()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pump()

    # -- reading ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.busy is not None and self.early is None:
            # A second request before the answer to the first: our client never pipelines.
            self.backend.malformed.append(bytes(self.buffer[:4096]))
            self.cut()
            return
        try:
            self.read()
        except MalformedError:
            self.backend.malformed.append(bytes(self.buffer[:4096]))
            self.cut()

    def read(self) -> None:
        ends = self.buffer.find(b"\r\n\r\n")
        if ends < 0:
            return
        method, target, headers = read_head(bytes(self.buffer[:ends]))
        named = dict(headers)
        seen = Seen(method, target, headers, b"", self.number, time.time())
        early = "early" in named.get("x-fake", "")
        if named.get("expect") == "100-continue" and self.early is None and not early:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, used = _body(bytes(self.buffer[ends + 4 :]), named)
        if early and self.early is None:
            self.early = seen
            self.backend.seen.append(seen)
            self.busy = seen
            self.answer(seen)
            return
        if body is None:
            return
        seen.body = body
        del self.buffer[: ends + 4 + used]
        if self.buffer:
            raise MalformedError("pipelined")
        if early:
            return
        if seen.method == "POST" and seen.target == "/fake":
            self.backend.told(body)
            seen.method = "GET"
        else:
            self.backend.seen.append(seen)
        self.busy = seen
        self.answer(seen)

    # -- answering ----------------------------------------------------------------------------------------

    def answer(self, seen: Seen) -> None:
        how = self.backend.behaviour(seen)
        if how.interim:
            lines = "".join(f"{line.strip()}\r\n" for line in how.interim.split(","))
            self.transport.write(f"HTTP/1.1 102 Processing\r\n{lines}\r\n".encode())
        if how.hang:
            return
        if how.delay_s:
            self.later(how.delay_s, self.begin, seen, how)
        else:
            self.begin(seen, how)

    def begin(self, seen: Seen, how: Behaviour) -> None:
        self.written = 0
        self.limit, self.finish = -1, "close" if how.close else ""
        if how.reset_at >= 0:
            self.limit, self.finish = how.reset_at, "reset"
        elif how.close_at >= 0:
            self.limit, self.finish = how.close_at, "close"
        elif how.hang_at >= 0:
            self.limit, self.finish = how.hang_at, "hang"
        self.pending = deque(self.plan(seen, how))
        self.pump()

    def plan(self, seen: Seen, how: Behaviour) -> list[tuple[float, bytes]]:
        if how.raw:
            raw = how.raw.encode().decode("unicode_escape").encode("latin-1")
            return [(how.interval_s, piece) for piece in raw.split(b"\x1e")]
        if self.backend.voice is not None and not how.body and seen.target != "/fake":
            return self.spoken(self.backend.voice, seen, how)
        try:
            asked = json.loads(seen.body) if seen.body.startswith(b"{") else {}
        except ValueError:
            asked = {}
        model = how.model or asked.get("model") or self.backend.models[0]
        stream = bool(how.chunks) or (shapes.streams(seen.target, asked) and how.status == 200)
        framing = how.framing or ("chunked" if stream else "length")
        pieces = self.events(seen, how, model) if stream else self.plain(seen, how, model)
        kind = how.content_type or (shapes.stream_type(seen.target) if stream else "application/json")
        return self.wrapped(pieces, how, framing, kind, how.status)

    def spoken(self, voice: Voice, seen: Seen, how: Behaviour) -> list[tuple[float, bytes]]:
        """The answer of the backend's voice, with the faults asked for."""
        path = seen.target.partition("?")[0]
        if how.status >= 400:
            said = voice.failure(path, how.status)
        else:
            try:
                said = voice.answer(seen.method, path, seen.body, Options(usage=how.usage))
            except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
                # A fake checks no types: what it can't read is its client's mistake.
                said = voice.failure(path, 400)
        pieces = list(said.pieces)
        if said.stream:
            pieces = pieces if how.done else pieces[: len(pieces) - said.end]
            pieces = pieces[: how.stop_after] if how.stop_after >= 0 else pieces
            pieces = [*pieces[: how.fail_after], said.failure] if how.fail_after >= 0 else pieces
            if how.junk_after >= 0:
                pieces.insert(how.junk_after, said.junk)
        else:
            body = b"".join(pieces)
            step = max(1, -(-len(body) // how.pieces))
            pieces = [body[start : start + step] for start in range(0, len(body), step)]
        framing = how.framing or ("chunked" if said.stream else "length")
        kind = how.content_type or said.content_type
        if seen.method == "HEAD":
            pieces, framing = [], "length"
        if not said.stream and how.pieces == 1:
            how = replace(how, interval_s=0.0)
        if said.interval_s:
            how = replace(how, interval_s=max(how.interval_s, said.interval_s))
        out = self.wrapped(pieces, how, framing, "\r\n".join((kind, *said.headers)), said.status)
        return [(said.delay_s, out[0][1]), *out[1:]]

    def wrapped(
        self, pieces: list[bytes], how: Behaviour, framing: str, kind: str, status: int
    ) -> list[tuple[float, bytes]]:
        """``pieces`` as HTTP carries them."""
        size = sum(len(piece) for piece in pieces) + how.extra_length
        head = f"HTTP/1.1 {status} Fake\r\ncontent-type: {kind}\r\nx-backend-port: {self.backend.port}\r\n"
        head += {"length": f"content-length: {size}\r\n", "chunked": "transfer-encoding: chunked\r\n"}.get(
            framing, ""
        )
        head += f"retry-after: {how.retry_after}\r\n" if how.retry_after else ""
        head += "connection: close\r\n" if how.close or framing == "eof" else ""
        if framing == "eof" and not self.finish:
            self.finish = "close"
        made: dict[bytes, bytes] = {}
        wrapped = list(pieces)
        if framing == "chunked":
            wrapped = [made.setdefault(p, b"%x\r\n%b\r\n" % (len(p), p)) for p in pieces]
        if how.bad_chunk:
            wrapped.insert(len(wrapped) // 2, b"xyz\r\nabc\r\n")
        out = [(0.0, head.encode() + b"\r\n")]
        out += [(how.interval_s, piece) for piece in wrapped]
        return out + ([(0.0, b"0\r\n\r\n")] if framing == "chunked" else [])

    def events(self, seen: Seen, how: Behaviour, model: str) -> list[bytes]:
        out = [b": waiting\n\n"] * how.comments
        count = how.chunks or 8
        for number in range(min(count, 1000)):
            out.append(shapes.framed(seen.target, shapes.event(seen.target, model, number), how.size))
        # A flood is one event over and over: it takes no memory.
        out += out[-1:] * (count - 1000)
        return [*out, shapes.end(seen.target, model, count)] if how.done else out

    def plain(self, seen: Seen, how: Behaviour, model: str) -> list[bytes]:
        if how.body:
            body = how.body.encode()
        elif seen.method == "GET" and (listed := shapes.listing(seen.target, self.backend.models)):
            body = json.dumps(listed).encode()
        elif seen.method == "GET":
            body = json.dumps(self.backend.report() if seen.target == "/fake" else {"status": "ok"}).encode()
        elif how.status >= 400:
            body = json.dumps(shapes.error(seen.target)).encode()
        else:
            body = json.dumps(shapes.plain(seen.target, model)).encode()
        body += b" " * max(0, how.size - len(body))
        step = max(1, -(-len(body) // how.pieces))
        return [body[start : start + step] for start in range(0, len(body), step)]

    def pump(self) -> None:
        while self.pending and not self.paused:
            wait_s, data = self.pending[0]
            if wait_s:
                self.pending[0] = (0.0, data)
                self.later(wait_s, self.pump)
                return
            self.pending.popleft()
            if not self.put(data):
                return
        if not self.pending and self.busy is not None and self.finish != "hang":
            self.complete()

    def put(self, data: bytes) -> bool:
        room = len(data) if self.limit < 0 else max(0, self.limit - self.written)
        self.transport.write(data[:room])
        self.written += min(room, len(data))
        self.backend.bytes_written += min(room, len(data))
        if 0 <= self.limit <= self.written:
            self.pending.clear()
            if self.finish == "hang":
                return False
            # What was written should arrive before the end does.
            self.later(0.02, self.end)
            return False
        return True

    def complete(self) -> None:
        if self.busy is not None:
            self.busy.answered_s = time.time()
        self.busy = None
        if self.finish:
            self.end()
        else:
            self.wait_idle()

    def end(self) -> None:
        self.busy = None
        if self.finish == "reset":
            # Without this, an aborted transport ends in a FIN as a closed one does.
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        else:
            self.transport.close()


def _body(rest: bytes, headers: dict[str, str]) -> tuple[bytes | None, int]:
    if "transfer-encoding" in headers:
        raise MalformedError("our client sends lengths only")
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise MalformedError("length")
    length = int(text)
    return (rest[:length], length) if len(rest) >= length else (None, 0)


def _help() -> str:
    """Every field of a behaviour with what is said of it above."""
    tree = ast.parse(inspect.getsource(Behaviour)).body[0]
    assert isinstance(tree, ast.ClassDef)
    lines = ["fields of a behaviour, in --default, --next and the header x-fake (name=value; name=value):"]
    for one, said in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            text = ast.literal_eval(said.value) if isinstance(said, ast.Expr) else ""
            lines.append(f"  {one.target.id:<14} {' '.join(str(text).split())}")
    lines += ["", "GET /fake shows what arrived, and what was malformed, as JSON."]
    lines += ['POST /fake {"default": "delay_s=1", "next": ["status=503", "hang"]} says what comes next.']
    return "\n".join(lines)


def arguments(prog: str, description: str) -> argparse.ArgumentParser:
    """What every fake server takes on its command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, which is printed")
    parser.add_argument("--default", default="", help="behaviour of every POST")
    parser.add_argument("--next", action="append", default=[], help="of the next POST; repeatable, in order")
    parser.add_argument("--idle-close-s", type=float, default=0.0, help="close idle connections after this")
    return parser


def serve(options: argparse.Namespace, **state: Any) -> None:
    """Run a fake server until it is interrupted."""
    default = parse_behaviour(options.default, Behaviour())
    backend = FakeBackend(
        default=default,
        idle_close_s=options.idle_close_s,
        script=deque(parse_behaviour(one, default) for one in options.next),
        **state,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.host, options.port, backend))


async def _serve(host: str, port: int, backend: FakeBackend) -> None:
    await backend.start(host, port)
    print(backend.port, flush=True)  # noqa: T201
    await asyncio.Event().wait()


def main() -> None:
    parser = arguments(
        "python -m tests.fakes.backend",
        "A fake inference server, of OpenAI's and Ollama's shapes, that fails on request.",
    )
    parser.add_argument("--model", action="append", default=[], help="a model that it has; repeatable")
    options = parser.parse_args()
    serve(options, models=tuple(options.model) or ("m1",))


if __name__ == "__main__":
    main()
