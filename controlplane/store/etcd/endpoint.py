"""One member of the cluster, and which of them is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, TypeVar, cast

import grpc
import structlog

from controlplane.store.etcd.access import EtcdAccess, EtcdTls
from controlplane.store.etcd.calls import STATUS, Answer, Call, Message
from controlplane.store.etcd.failures import NotConnectedError
from controlplane.store.etcd.wire import v3_pb2 as pb
from swarmplane.addresses import Address

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
Metadata = tuple[tuple[str, str], ...]
# keepalive_timeout_ms does nothing in any version that was measured, the HTTP/2 ping time-out works. etcd
# takes more than one ping in 5 s for an attack, and closes the connection.
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long an attempt to connect may take: callers wait for as long as they want to, and it goes on.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # Whether a write was sent twice must be ours to know.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Answer)

log = structlog.get_logger(__name__)


class Endpoint:
    """A connection to one member, made when first needed and again when lost."""

    def __init__(self, address: Address, tls: EtcdTls | None) -> None:
        self.address = address
        self.well = True
        self._channel = _channel(address, tls)

    async def connected(self, timeout_s: float) -> None:
        """Return once there is a connection.

        Asked before each call: what fails without one was never sent, which no error text tells reliably.

        Raises:
            NotConnectedError: There is none, or none within ``timeout_s``.
        """
        state = self._channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(timeout_s):
                while state is not grpc.ChannelConnectivity.READY:
                    if state is grpc.ChannelConnectivity.SHUTDOWN:
                        raise NotConnectedError("the store is closed")
                    if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                        raise NotConnectedError(await self._complaint())
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise NotConnectedError("no connection in time") from None

    async def ask(self, call: Call[Q, R], request: Q, *, timeout_s: float, metadata: Metadata) -> R:
        """One question, one answer.

        Raises:
            grpc.aio.AioRpcError: As the member or the connection says.
        """
        method = self._channel.unary_unary(
            call.path, request_serializer=call.request.SerializeToString, response_deserializer=call.parse
        )
        answer: R = await method(request, timeout=timeout_s, metadata=metadata)
        return answer

    async def status(self, timeout_s: float, token: str = "") -> pb.StatusResponse:
        """How this member is, whether or not it has a leader. Newer servers want a token for it.

        Raises:
            grpc.aio.AioRpcError: It does not say.
        """
        metadata = (("token", token),) if token else ()
        return await self.ask(STATUS, pb.StatusRequest(), timeout_s=timeout_s, metadata=metadata)

    def stream(self, call: Call[Q, R], metadata: Metadata) -> grpc.aio.StreamStreamCall[Q, R]:
        """A stream both ways, which lasts until it is cancelled or fails."""
        method = self._channel.stream_stream(
            call.path, request_serializer=call.request.SerializeToString, response_deserializer=call.parse
        )
        return cast("grpc.aio.StreamStreamCall[Q, R]", method(metadata=metadata))

    async def close(self) -> None:
        """End the connection, and all calls on it."""
        await self._channel.close()

    async def _complaint(self) -> str:
        # Fails at once, with what gRPC knows of the connection.
        try:
            await self.status(1.0)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        return "the connection was lost"


class Endpoints:
    """The members in the order in which they are asked; all share the opinion which is good."""

    def __init__(self, access: EtcdAccess, first: int) -> None:
        """Begin with the member numbered ``first``, so that not all instances ask the same one."""
        addresses = access.endpoints
        self.all: Sequence[Endpoint] = [Endpoint(address, access.tls) for address in addresses]
        self._index = first % len(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def current(self) -> Endpoint:
        """The one to ask now."""
        return self.all[self._index]

    def leave(self, endpoint: Endpoint, reason: str) -> None:
        """``endpoint`` failed: the next one is asked, unless somebody has seen to that already."""
        if endpoint.well:
            endpoint.well = False
            log.warning("etcd.endpoint_failed", endpoint=str(endpoint.address), reason=reason)
        if self.current is endpoint:
            self._index = (self._index + 1) % len(self.all)

    def praise(self, endpoint: Endpoint) -> None:
        """``endpoint`` answered."""
        if not endpoint.well:
            endpoint.well = True
            log.info("etcd.endpoint_recovered", endpoint=str(endpoint.address))

    async def close(self) -> None:
        """End all connections."""
        for endpoint in self.all:
            await endpoint.close()


def _channel(address: Address, tls: EtcdTls | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(str(address), options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls.ca_pem, tls.key_pem, tls.certificate_pem)
    options = [*_OPTIONS, *([("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else [])]
    return grpc.aio.secure_channel(str(address), credentials, options=options)
