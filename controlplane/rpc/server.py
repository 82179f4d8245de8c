"""The two gRPC listeners of an instance: control with mutual TLS, enrolment with server TLS.

Two, because a grpcio server can't ask for an optional client certificate (measured).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controlplane.rpc.interceptors import AuthorizationInterceptor, ErrorInterceptor
from controlplane.rpc.several import SeveralServers
from controlplane.services.callers import Callers
from controlplane.services.denials import Denials
from swarmplane.addresses import Address
from swarmplane.channels import MAX_MESSAGE_BYTES
from swarmplane.credentials.files import Credential
from swarmplane.errors import UnavailableError
from swarmplane.listening import listening_socket

_MAX_ENROLMENT_BYTES: Final = 256 * 1024
_MAX_ENROLMENT_CALLS: Final = 256
# A second host on the same port would share it silently, and get a part of the connections.
_ALONE: Final = (("grpc.so_reuseport", 0),)
_SHARED: Final = (
    # Defaults of gRPC answer a ping every two seconds with GOAWAY.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
_CONTROL: Final = (
    *_SHARED,
    ("grpc.keepalive_time_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
_JOIN: Final = (
    *_SHARED,
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_receive_message_length", _MAX_ENROLMENT_BYTES),
    ("grpc.max_send_message_length", _MAX_ENROLMENT_BYTES),
)


class LiveCertificate:
    """The certificate that new connections see; replaced without a restart."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        """The one that is shown."""
        self.subject = credential.facts().subject
        """Whom it names."""
        self._configuration = _configuration(credential)

    def replace(self, credential: Credential) -> None:
        """Show ``credential`` from the next handshake on. Any thread may call it."""
        self.credential = credential
        self.subject = credential.facts().subject
        self._configuration = _configuration(credential)

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        """For one listener; ``mutual`` refuses callers without a certificate of our CA in the handshake."""
        shown = self._configuration

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called by gRPC in a thread of its own, before each handshake.
            nonlocal shown
            current = self._configuration
            if current is shown:
                return None
            shown = current
            return current

        # The stub leaves out that None means "as before".
        return grpc.dynamic_ssl_server_credentials(
            shown,
            fetch,  # type: ignore[arg-type]
            require_client_authentication=mutual,
        )


def _configuration(credential: Credential) -> grpc.ServerCertificateConfiguration:
    pair = (credential.key_pem, credential.certificate_pem)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=credential.ca_pem)


class RpcServers:
    """Both listeners. Servicers are added to ``control`` and ``join`` between construction and start."""

    def __init__(self, certificate: LiveCertificate, callers: Callers, denials: Denials) -> None:
        self._certificate = certificate
        errors = ErrorInterceptor()
        interceptors = [errors, AuthorizationInterceptor(callers, denials)]
        self.control = SeveralServers(
            lambda options: grpc.aio.server(interceptors=interceptors, options=(*_CONTROL, *options))
        )
        self.join = grpc.aio.server(
            interceptors=[ErrorInterceptor()],
            options=(*_JOIN, *_ALONE),
            maximum_concurrent_rpcs=_MAX_ENROLMENT_CALLS,
        )
        self._health = health.aio.HealthServicer()
        self.control_bound = Address("", 0)
        self.join_bound = Address("", 0)

    def bind(self, control: Address, join: Address) -> None:
        """Take both ports; 0 picks free ones. It blocks on looking up names.

        Raises:
            UnavailableError: A port is taken; says by whom and which flag chooses another.
        """
        show = self._certificate.server_credentials

        def listen_control(address: str) -> int:
            return self.control.listen(address, lambda: show(mutual=True))

        def listen_join(address: str) -> int:
            return self.join.add_secure_port(address, show(mutual=False))

        self.control_bound = _bind(listen_control, control, "--control-listen")
        self.join_bound = _bind(listen_join, join, "--join-listen")

    async def start(self, services: Sequence[str]) -> None:
        """Serve. Health and reflection tell of ``services`` (full names) on the control listener."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.control)
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.control)
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self.control.start()
        await self.join.start()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, give running ones ``grace_s``, then cut them off."""
        await self._health.enter_graceful_shutdown()
        await self.join.stop(grace_s)
        await self.control.stop(grace_s)


def _bind(listen: Callable[[str], int], address: Address, flag: str) -> Address:
    # Bound and closed first: gRPC's own error names neither the reason nor the holder.
    listening_socket(address, flag=flag).close()
    try:
        port = listen(str(address))
    except RuntimeError as error:
        raise UnavailableError(
            f"cannot listen at {address}; choose another address with {flag} HOST:PORT"
        ) from error
    return Address(address.host, port)


def service_names(*descriptors: Any) -> tuple[str, ...]:  # noqa: ANN401 - generated modules have no type
    """Full names of the services in generated modules, for reflection."""
    return tuple(
        service.full_name for module in descriptors for service in module.DESCRIPTOR.services_by_name.values()
    )
