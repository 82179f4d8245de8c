"""TLS between sidecars: real connections, with certificates good, ended, denied or somebody else's."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmplane.credentials import csr, keys
from swarmplane.credentials.authority import Authority, found_authority, issue
from swarmplane.credentials.files import load_credential, save_renewed
from swarmplane.credentials.names import control_subject, node_server_name, node_subject, user_subject
from swarmplane.credentials.tls import (
    admit,
    check_peer,
    peer_client_context,
    peer_identity,
    peer_server_context,
    reload_certificate,
)
from swarmplane.errors import ForbiddenError, SwarmError, UnauthenticatedError
from swarmplane.ids import NodeId, SubjectId
from tests.credentials.conftest import SWARM, Make

A, B = NodeId("nodea"), NodeId("nodeb")
WAIT_S = 20.0


@asynccontextmanager
async def listening(context: ssl.SSLContext) -> AsyncIterator[tuple[int, asyncio.Queue[ssl.SSLObject]]]:
    """A TLS server; every finished handshake of its side comes out of the queue."""
    seen: asyncio.Queue[ssl.SSLObject] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(writer.get_extra_info("ssl_object"))
        writer.write(b"x")
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext, name: str) -> AsyncIterator[ssl.SSLObject]:
    """A connection that the server has accepted: it answered a byte."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        try:
            # With TLS 1.3 a client learns that its certificate is refused with its first read.
            if not await reader.read(1):
                raise ConnectionResetError
            yield writer.get_extra_info("ssl_object")
        finally:
            writer.close()


@asynccontextmanager
async def met(client: Path, server: Path) -> AsyncIterator[tuple[ssl.SSLObject, ssl.SSLObject]]:
    """Both ends of a connection from ``client`` to the node B in ``server``: first the client's."""
    name = node_server_name(B, SWARM)
    async with (
        listening(peer_server_context(server)) as (port, seen),
        connected(port, peer_client_context(client), name) as connection,
    ):
        yield connection, await seen.get()


def checked(
    connection: ssl.SSLObject,
    *,
    expected: NodeId | None = None,
    denied: Collection[str] = (),
    reachable: bool = True,
) -> NodeId:
    return check_peer(
        connection,
        expected=expected,
        denied={SubjectId(one) for one in denied},
        now_s=time.time(),
        instance_reachable=reachable,
    )


async def test_two_nodes_know_each_other(make: Make) -> None:
    async with met(make(node_subject(A, SWARM)), make(node_subject(B, SWARM))) as (client_side, server_side):
        assert checked(client_side, expected=B) == B
        assert client_side.version() == "TLSv1.3"
        assert client_side.selected_alpn_protocol() == "http/1.1"
        assert checked(server_side) == A
        assert peer_identity(server_side).swarm == SWARM
        with pytest.raises(UnauthenticatedError, match="nodea answers where node nodeb"):
            checked(server_side, expected=B)


async def test_a_node_is_called_by_its_name_and_not_by_its_address(make: Make) -> None:
    a, b = make(node_subject(A, SWARM)), make(node_subject(B, SWARM))
    async with listening(peer_server_context(b)) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(port, peer_client_context(a), node_server_name(A, SWARM)):
                pass


@pytest.mark.parametrize("ended_days_ago", [0.5, 29])
async def test_an_ended_certificate_is_good_while_no_instance_is_reachable(
    make: Make, ended_days_ago: float
) -> None:
    a = make(node_subject(A, SWARM), ended_days_ago=ended_days_ago)
    b = make(node_subject(B, SWARM), ended_days_ago=ended_days_ago)
    async with met(a, b) as sides:
        for side in sides:
            checked(side, reachable=False)
            with pytest.raises(UnauthenticatedError, match="expired"):
                checked(side, reachable=True)


async def test_after_thirty_days_no_outage_excuses_it(make: Make) -> None:
    a, b = make(node_subject(A, SWARM), ended_days_ago=31), make(node_subject(B, SWARM))
    async with met(a, b) as (_, server_side):
        with pytest.raises(UnauthenticatedError, match="expired"):
            checked(server_side, reachable=False)


@pytest.mark.parametrize("reachable", [True, False])
async def test_a_denied_node_is_refused_whatever_its_dates(make: Make, *, reachable: bool) -> None:
    async with met(make(node_subject(A, SWARM)), make(node_subject(B, SWARM))) as (_, server_side):
        checked(server_side, reachable=reachable)
        with pytest.raises(ForbiddenError, match="removed"):
            checked(server_side, denied={A}, reachable=reachable)
        peer, denied = peer_identity(server_side), {SubjectId(A)}
    with pytest.raises(ForbiddenError):
        admit(peer, denied=denied, now_s=time.time(), instance_reachable=reachable)


@pytest.mark.parametrize("subject", [control_subject(SWARM), user_subject("ada", SWARM)])
async def test_only_nodes_are_peers(make: Make, subject: object) -> None:
    async with met(make(subject), make(node_subject(B, SWARM))) as (_, server_side):
        with pytest.raises(ForbiddenError, match="only nodes"):
            checked(server_side)


async def test_a_person_is_no_server(make: Make) -> None:
    a, ada = make(node_subject(A, SWARM)), make(user_subject("ada", SWARM))
    async with listening(peer_server_context(ada)) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(port, peer_client_context(a), "ada.user." + SWARM):
                pass


async def test_a_certificate_of_another_authority_gets_no_connection(make: Make) -> None:
    forger = found_authority(SWARM, time.time())
    forged, b = make(node_subject(A, SWARM), by=forger), make(node_subject(B, SWARM))
    async with listening(peer_server_context(b)) as (port, seen):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            async with connected(port, peer_client_context(forged), node_server_name(B, SWARM)):
                pass
        assert seen.empty()
    async with listening(peer_server_context(forged)) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(port, peer_client_context(b), node_server_name(A, SWARM)):
                pass


async def test_no_certificate_no_connection(make: Make) -> None:
    b = make(node_subject(B, SWARM))
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.load_verify_locations(cafile=b / "ca.pem")
    async with listening(peer_server_context(b)) as (port, seen):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            async with connected(port, anonymous, node_server_name(B, SWARM)):
                pass
        assert seen.empty()


async def test_a_renewed_certificate_is_shown_by_the_same_context(authority: Authority, make: Make) -> None:
    a, b = make(node_subject(A, SWARM)), make(node_subject(B, SWARM), ended_days_ago=2)
    context = peer_server_context(b)
    async with listening(context) as (port, _):
        _renew(authority, b)
        reload_certificate(context, b)
        async with connected(port, peer_client_context(a), node_server_name(B, SWARM)) as connection:
            assert checked(connection, expected=B, reachable=True) == B


def _renew(authority: Authority, directory: Path) -> None:
    credential = load_credential(directory)
    key = keys.private_key_from_pem(credential.key_pem)
    subject = credential.facts().subject
    save_renewed(directory, issue(authority, csr.public_key_of(csr.make_csr(key)), subject, time.time()))


def test_a_connection_that_showed_nothing_is_nobody() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    blank = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises((SwarmError, ValueError)):
        peer_identity(blank)
