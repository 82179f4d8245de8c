"""What people type as an address, and where that leads."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import pytest

from swarmplane.addresses import Address
from swarmplane.errors import FailedPreconditionError, InvalidRequestError, UnavailableError
from swarmplane.locating import addresses_of, locate

Serve = Callable[[object], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def one(document: object) -> str:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/.well-known/swarmplane" else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield one
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mac.local", Address("mac.local", 11405)),
        ("10.0.0.1:7", Address("10.0.0.1", 7)),
        ("[fd00::1]", Address("fd00::1", 11405)),
        ("fd00::1", Address("fd00::1", 11405)),
        ("[fd00::1]:7", Address("fd00::1", 7)),
    ],
)
async def test_hosts_and_ports(text: str, address: Address) -> None:
    assert (await locate(text)).address == address


@pytest.mark.parametrize("text", ["host:x", "host:99999", "ftp://host", "http://"])
async def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="HOST"):
        await locate(text)


@pytest.mark.parametrize(
    ("join", "address"),
    [
        ("10.0.0.1:7", Address("10.0.0.1", 7)),
        (["10.0.0.1:7", "b:1"], Address("10.0.0.1", 7)),
        ("10.0.0.1", Address("10.0.0.1", 11405)),
        ("0.0.0.0:7", Address("127.0.0.1", 7)),
        ("127.0.0.1:7", Address("127.0.0.1", 7)),
    ],
)
async def test_a_member_points_the_way_whatever_proxies_are_set(
    serve: Serve, join: object, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:9")
    assert (await locate(serve({"swarm": "s", "join": join}))).address == address


@pytest.mark.parametrize("document", [{"swarm": ""}, {"join": ""}, {"join": []}, [], b"<html>", b""])
async def test_one_that_is_in_no_swarm(serve: Serve, document: object) -> None:
    with pytest.raises(FailedPreconditionError):
        await locate(serve(document))


async def test_nobody_there() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
        await locate("http://127.0.0.1:9")


async def test_names_are_resolved() -> None:
    assert await addresses_of(Address("127.0.0.1", 5)) == (Address("127.0.0.1", 5),)
    with pytest.raises(FailedPreconditionError, match=r"nowhere\.invalid"):
        await addresses_of(Address("nowhere.invalid", 5))
