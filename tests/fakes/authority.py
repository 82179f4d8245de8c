"""A real instance in this process, on real sockets with real certificates, without the control service."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from controlplane.rpc.register_authority import register_authority
from controlplane.rpc.server import LiveCertificate, RpcServers
from controlplane.services.authority import SwarmAuthority
from controlplane.services.callers import Callers
from controlplane.services.denials import Denials
from controlplane.services.enrolment import Enrolment
from controlplane.services.founding import open_or_found
from controlplane.services.mutations import Mutations
from controlplane.services.own_credentials import own_credential
from controlplane.services.renewal import Renewal
from controlplane.services.tokens import Tokens
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import Store
from swarmplane.addresses import Address, parse_address
from swarmplane.channels import control_channel, enrollment_channel
from swarmplane.clock import SystemClock
from swarmplane.credentials import csr, keys
from swarmplane.credentials.files import Credential, load_credential
from swarmplane.credentials.join_token import JoinToken, parse_join_token
from swarmplane.datadir import DataDir
from swarmplane.ids import random_id
from swarmplane.v1 import enrollment_pb2, enrollment_pb2_grpc, token_pb2, token_pb2_grpc

CALL_S = 20.0
ANY_PORT = Address("127.0.0.1", 0)


async def presented_certificate(address: str) -> bytes:
    """The certificate (PEM) that ``address`` presents, unverified."""
    where = parse_address(address)
    pem = await asyncio.to_thread(ssl.get_server_certificate, (where.host, where.port), timeout=CALL_S)
    return pem.encode()


async def until(check: Callable[[], object]) -> None:
    """Wait until ``check`` holds."""
    async with asyncio.timeout(CALL_S):
        while True:
            if check():
                return
            await asyncio.sleep(0.01)


class WallClock:
    """The wall clock, and as much later as a test wants."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class Instance:
    """An instance that serves."""

    store: Store
    data_dir: DataDir
    authority: SwarmAuthority
    servers: RpcServers
    certificate: LiveCertificate
    denials: Denials
    wall: WallClock
    services: tuple[str, ...]
    enrolment: Enrolment
    tokens: Tokens
    mutations: Mutations
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    @property
    def admin(self) -> Credential:
        """The founder's credential."""
        return load_credential(self.data_dir.context("default"))

    @property
    def join_address(self) -> str:
        return str(self.servers.join_bound)

    @property
    def control_address(self) -> str:
        return str(self.servers.control_bound)

    async def channel(self, credential: Credential | None = None) -> grpc.aio.Channel:
        """To the control listener, closed with the instance."""
        channel = await control_channel(self.control_address, credential or self.admin)
        self._channels.append(channel)
        return channel

    async def join_channel(self, root_pem: bytes | None = None) -> grpc.aio.Channel:
        """To the enrolment listener, closed with the instance."""
        channel = await enrollment_channel(self.join_address, root_pem or self.authority.ca_pem)
        self._channels.append(channel)
        return channel

    async def token(self, credential: Credential | None = None, **wish: Any) -> JoinToken:
        """A new join token."""
        stub: Any = token_pb2_grpc.TokenServiceStub(await self.channel(credential))
        answer = await stub.Create(token_pb2.CreateTokenRequest(**wish), timeout=CALL_S)
        return parse_join_token(answer.join_token)

    async def enroll(
        self, token: JoinToken, *, key: Any = None, channel: grpc.aio.Channel | None = None, **wish: Any
    ) -> tuple[Credential, enrollment_pb2.EnrollResponse]:
        """Spend a use of ``token``."""
        key = key or keys.new_private_key()
        stub: Any = enrollment_pb2_grpc.EnrollmentServiceStub(channel or await self.join_channel())
        request = enrollment_pb2.EnrollRequest(
            **{
                "token_id": token.id,
                "secret": token.secret,
                "csr_der": csr.make_csr(key),
                "request_id": random_id(),
                **wish,
            }
        )
        answer = await stub.Enroll(request, timeout=CALL_S)
        pem = keys.private_key_to_pem(key)
        return Credential(answer.ca_pem.encode(), answer.certificate_pem.encode(), pem), answer

    async def member(self, role: str, **wish: Any) -> Credential:
        """The credential of a new subject with ``role``."""
        return (await self.enroll(await self.token(role=role), **wish))[0]

    async def everything(self, *but: str) -> dict[str, str]:
        """Digest of every value by key, except below the prefixes ``but``."""
        found = await self.store.range("")
        return {
            kv.key: hashlib.sha256(kv.value).hexdigest()
            for kv in found.items
            if not kv.key.startswith(but or ("\0",))
        }

    async def close(self) -> None:
        """Stop serving."""
        for channel in self._channels:
            await channel.close()
        await self.servers.stop(0.1)


@asynccontextmanager
async def running_instance(
    root: Path, *, extra: Sequence[Any] = (), swarm_name: str = "test"
) -> AsyncIterator[Instance]:
    """An instance on free ports; ``extra`` are called with the control server before it starts."""
    clock, wall, data_dir = SystemClock(), WallClock(), DataDir(root)
    data_dir.control_plane.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with EmbeddedStore.open(data_dir.control_plane / "store.db", clock=clock) as store:
        authority = await open_or_found(store, data_dir, swarm_name=swarm_name, unix_s=wall)
        certificate = LiveCertificate(own_credential(authority, data_dir, wall()))
        callers, denials = Callers(store, authority.swarm), Denials(store, clock)
        servers = RpcServers(certificate, callers, denials)
        servers.bind(ANY_PORT, ANY_PORT)
        mutations = Mutations(store, authority.secret, wall)
        tokens = Tokens(store, authority, mutations, wall)
        enrolment = Enrolment(store, authority, tokens, mutations, wall)
        services = register_authority(
            servers,
            enrolment=enrolment,
            renewal=Renewal(authority, callers, wall),
            tokens=tokens,
            control_addresses=tuple,
            join_addresses=tuple,
        )
        for add in extra:
            add(servers.control)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(denials.run())
            await denials.loaded.wait()
            await servers.start(services)
            instance = Instance(
                store, data_dir, authority, servers, certificate, denials, wall, services,
                enrolment, tokens, mutations,
            )  # fmt: skip
            try:
                yield instance
            finally:
                await instance.close()
                following.cancel()
