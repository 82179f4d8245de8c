"""Connections to backends: names, TLS, and addresses that do not answer."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sidecar.backends.target import Target
from sidecar.dataplane.pool import Destination
from swarmplane.ids import BackendName
from tests.fakes.backend import FakeBackend, running_backend
from tests.fakes.dataplane import CHAT, Served, black_hole, client, eventually, running_node


def _certificate(directory: Path) -> Path:
    """A certificate of its own for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "backend")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = directory / "backend.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_backend_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool) -> None:
    path = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with (
        running_backend(context=context) as backend,
        running_node(served={"one": Served(backend)}) as node,
        client(node) as http,
    ):
        name = BackendName("one")
        node.backends.targets = {name: Target(name, "openai", "127.0.0.1", backend.port, tls=True)}
        answers = [await http.ask(CHAT) for _ in range(2)]
        assert [answer.status for answer in answers] == [200 if trusted else 503] * 2
        assert len(backend.asked) == (2 if trusted else 0), "nothing is sent to whom we can't trust"


async def test_a_backend_by_name(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        name = BackendName("one")
        node.backends.targets = {name: Target(name, "openai", "localhost", backend.port)}
        assert (await http.ask(CHAT)).status == 200
        assert backend.asked[0].header("host") == f"localhost:{backend.port}"


async def test_a_backend_that_moved_is_found_at_its_new_place(backend: FakeBackend) -> None:
    async with running_backend() as other, running_node(served={"one": Served(backend)}) as node:
        async with client(node) as http:
            await http.ask(CHAT)
            node.own({"one": Served(other)})
            assert (await http.ask(CHAT)).status == 200
        assert (len(backend.asked), len(other.asked)) == (1, 1)
        await eventually(lambda: backend.open_connections == 0, "the old connection is closed")


async def test_a_backend_that_vanished_is_no_replica(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}) as node, client(node) as http:
        node.backends.targets = {}
        answer = await http.ask(CHAT)
        assert (answer.status, answer.code) == (503, "no_replica")


async def test_an_address_that_never_answers_leaves_time_for_the_next(backend: FakeBackend) -> None:
    async with black_hole() as silent:
        addresses = (("127.0.0.1", silent), ("127.0.0.1", backend.port))
        destination = Destination(addresses, idle_s=1, most_idle=1)
        upstream = await destination.connect(1.5)
        assert upstream.usable
        upstream.abort()


async def test_no_address_answers() -> None:
    with pytest.raises(OSError, match=r"."):
        await Destination((("127.0.0.1", 1),), idle_s=1, most_idle=1).connect(1)
    with pytest.raises(OSError, match=r"."):
        await Destination((), idle_s=1, most_idle=1).connect(1)


async def test_only_so_many_connections_wait(backend: FakeBackend) -> None:
    destination = Destination((("127.0.0.1", backend.port),), idle_s=60, most_idle=2)
    for upstream in [await destination.connect(1) for _ in range(4)]:
        destination.put(upstream)
    assert destination.idle == 2
    await eventually(lambda: backend.open_connections == 2)
    taken = destination.take()
    assert taken is not None
    assert taken.reused
    taken.abort()
    destination.clear()
    await eventually(lambda: backend.open_connections == 0)
