"""gRPC channels to instances, and what their errors mean.

Names are resolved by getaddrinfo before gRPC sees them, so that ``mac.local`` works wherever ping does;
proxy variables are ignored; certificates are checked against fixed names, never against addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from swarmplane import errors
from swarmplane.addresses import Address, parse_address
from swarmplane.credentials.files import Credential
from swarmplane.credentials.names import CONTROL_NAME, JOIN_NAME
from swarmplane.errors import Code, SwarmError, UnavailableError, reason_of

CONNECT_TIMEOUT_S: Final = 5.0
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
ERROR_DOMAIN: Final = "swarmplane"
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"
STALE_KEY: Final = "x-swarm-stale-s"
"""Trailing metadata of an answer that is not fresh, because the store is out of reach: its age in seconds."""
# `grpc.keepalive_timeout_ms` does nothing in any version that was measured; the HTTP/2 ping time-out works.
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    # Within four seconds of silence a sidecar looks for another instance: while it does, its membership
    # stands on the lease of the one that it lost.
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # So long may an attempt to connect take, handshake and all. With less, a swarm that connects at once
    # gives up all its attempts and makes them again, which is what keeps the instance from answering.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Else channels with the same options share connections, and a renewed certificate would not be shown.
    ("grpc.use_local_subchannel_pool", 1),
)


async def control_channel(
    address: str | Address, credential: Credential, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> grpc.aio.Channel:
    """A channel to the control listener at ``address``, as the holder of ``credential``.

    Raises:
        UnavailableError: The name has no address, or none of its addresses answers.
    """
    credentials = grpc.ssl_channel_credentials(
        credential.ca_pem, credential.key_pem, credential.certificate_pem
    )
    return _channel(await _target(address, timeout_s), credentials, CONTROL_NAME)


def blocking_control_channel(
    address: str | Address, credential: Credential, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> grpc.Channel:
    """As :func:`control_channel`, for threads. It blocks while the name is resolved.

    Raises:
        UnavailableError: The name has no address, or none of its addresses answers.
    """
    credentials = grpc.ssl_channel_credentials(
        credential.ca_pem, credential.key_pem, credential.certificate_pem
    )
    target = _blocking_target(address, timeout_s)
    return grpc.secure_channel(target, credentials, options=_options(CONTROL_NAME))


async def enrollment_channel(
    address: str | Address, root_pem: bytes, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> grpc.aio.Channel:
    """A channel to the enrolment listener at ``address``, for callers without a certificate.

    Args:
        address: ``host:port``.
        root_pem: The swarm's CA; or, to ask which CA that is, the leaf that was presented. What came over
            a channel of the latter kind proves nothing until the CA was compared with a fingerprint.
        timeout_s: Longest wait for the name and, where it has several addresses, for a connection.

    Raises:
        UnavailableError: The name has no address, or none of its addresses answers.
    """
    return _channel(await _target(address, timeout_s), grpc.ssl_channel_credentials(root_pem), JOIN_NAME)


def _channel(target: str, credentials: grpc.ChannelCredentials, verified_name: str) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(target, credentials, options=_options(verified_name))


def _options(verified_name: str) -> tuple[tuple[str, int | str], ...]:
    return (
        *_OPTIONS,
        ("grpc.ssl_target_name_override", verified_name),
        ("grpc.default_authority", verified_name),
    )


async def _target(address: str | Address, timeout_s: float) -> str:
    """The address in gRPC's spelling, numeric, of one family."""
    where = _parsed(address)
    with contextlib.suppress(ValueError):
        return _numeric(str(ipaddress.ip_address(where.host)), where.port)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
            hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            if len(hosts) > 1:
                # A gRPC target has one family: find out which address answers.
                _, writer = await asyncio.open_connection(where.host, where.port, happy_eyeballs_delay=0.25)
                hosts = [str(writer.get_extra_info("peername")[0])]
                writer.close()
    except TimeoutError as error:
        raise UnavailableError(f"nobody answers at {where} within {timeout_s:g} s") from error
    except OSError as error:
        raise UnavailableError(f"nobody answers at {where}: {reason_of(error)}") from error
    return _numeric(hosts[0], where.port)


def _blocking_target(address: str | Address, timeout_s: float) -> str:
    where = _parsed(address)
    with contextlib.suppress(ValueError):
        return _numeric(str(ipaddress.ip_address(where.host)), where.port)
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
        hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if len(hosts) > 1:
            # A gRPC target has one family: find out which address answers.
            with socket.create_connection((where.host, where.port), timeout=timeout_s) as connection:
                hosts = [str(connection.getpeername()[0])]
    except TimeoutError as error:
        raise UnavailableError(f"nobody answers at {where} within {timeout_s:g} s") from error
    except OSError as error:
        raise UnavailableError(f"nobody answers at {where}: {reason_of(error)}") from error
    return _numeric(hosts[0], where.port)


def _parsed(address: str | Address) -> Address:
    return address if isinstance(address, Address) else parse_address(address)


def _numeric(host: str, port: int) -> str:
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


_CLASSES: Final[dict[Code, type[SwarmError]]] = {
    kind.default_code: kind
    for kind in (
        errors.InvalidRequestError,
        errors.UnauthenticatedError,
        errors.ForbiddenError,
        errors.NotFoundError,
        errors.AlreadyExistsError,
        errors.ConflictError,
        errors.FailedPreconditionError,
        errors.StaleEpochError,
        errors.UnavailableError,
    )
}
_CLASSES_BY_STATUS: Final = {
    code.grpc_status: kind for code, kind in _CLASSES.items() if kind is not errors.StaleEpochError
}
"""For codes without a class of their own, as `model_not_found`: who catches the wider one gets it."""
STREAM_RESET: Final = "the stream was reset"
_CORE: Final = "Internal error from Core"
"""What grpcio says of a write to a stream that has ended, in place of the reason."""
_BARE_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: Code.INVALID_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: Code.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Code.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: Code.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: Code.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED: Code.CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: Code.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED: Code.METHOD_NOT_ALLOWED,
    grpc.StatusCode.OUT_OF_RANGE: Code.COMPACTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.SATURATED,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.UNAVAILABLE,
    grpc.StatusCode.CANCELLED: Code.UNAVAILABLE,
    grpc.StatusCode.UNAVAILABLE: Code.UNAVAILABLE,
}


class FailedCall(Protocol):
    """What both of gRPC's interfaces tell of a call that failed."""

    def code(self) -> grpc.StatusCode:
        """The status."""
        ...

    def details(self) -> str | None:
        """The server's words, or gRPC's."""
        ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """What came with the status."""
        ...


def rpc_error_to_swarm_error(error: FailedCall, address: str | Address = "") -> SwarmError:
    """What a failed call means: the server's own reason and details, else the plain status.

    Args:
        error: From any call.
        address: Named in the message when the server could not be reached at all.
    """
    info = _error_info(error)
    message = error.details() or ""
    if info is not None:
        return _swarm_error(Code.of_slug(info.reason), message, dict(info.metadata))
    code = _BARE_STATUS.get(error.code(), Code.INTERNAL)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = "the control plane did not answer in time"
    if error.code() is grpc.StatusCode.INTERNAL and message == _CORE:
        code, message = Code.UNAVAILABLE, STREAM_RESET
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        message = _unreachable(message, str(address))
    return _swarm_error(code, message or error.code().name.lower().replace("_", " "), {})


def _swarm_error(code: Code, message: str, details: dict[str, str]) -> SwarmError:
    kind = _CLASSES.get(code) or _CLASSES_BY_STATUS.get(code.grpc_status, SwarmError)
    reserved = {"message", "code", "self"}
    return kind(message, code=code, **{k: v for k, v in details.items() if k not in reserved})


def _unreachable(details: str, address: str) -> str:
    where = f" at {address}" if address else ""
    if "CERTIFICATE_VERIFY_FAILED" in details or "Peer name" in details:
        return f"the control plane{where} belongs to another swarm: its certificate is not of our authority"
    reason = "connection refused" if "refused" in details.lower() else "it does not answer"
    return f"the control plane{where} can't be reached: {reason}"


def _error_info(error: FailedCall) -> error_details_pb2.ErrorInfo | None:
    for key, value in error.trailing_metadata() or ():
        if key != STATUS_DETAILS_KEY or not isinstance(value, bytes):
            continue
        info = error_details_pb2.ErrorInfo()
        with contextlib.suppress(DecodeError):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                    return info
    return None


@contextlib.contextmanager
def swarm_errors(address: str | Address = "") -> Iterator[None]:
    """Within it, failed calls raise the :class:`SwarmError` they mean.

    Raises:
        SwarmError: See :func:`rpc_error_to_swarm_error`.
    """
    try:
        yield
    except grpc.RpcError as error:
        # Both interfaces raise what is a call as well; the base class alone says nothing of that.
        raise rpc_error_to_swarm_error(cast("FailedCall", error), address) from error
