"""Listening sockets, and errors that say who holds a busy port and which flag chooses another."""

from __future__ import annotations

import errno
import os
import socket

from swarmplane.addresses import Address
from swarmplane.errors import UnavailableError, reason_of

BACKLOG = 4096


def listening_socket(address: Address, *, flag: str) -> socket.socket:
    """A non-blocking TCP socket that listens at ``address``; port 0 takes a free one.

    ``0.0.0.0`` and ``::`` are all interfaces; ``::`` takes IPv4 too where the platform can. Looking up a name
    blocks.

    Args:
        address: Where to listen.
        flag: Option that chooses another address, for the error.

    Raises:
        UnavailableError: It cannot be had; says why, who holds the port where that can be told, and ``flag``.
    """
    try:
        family, _, _, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UnavailableError(f"cannot listen at {address}: {reason_of(error)}; see {flag}") from None
    try:
        _prepare(bound, family)
        bound.bind(target)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise UnavailableError(_refusal(address, flag, error)) from None
    bound.setblocking(False)
    return bound


def adopted_socket(descriptor: int) -> socket.socket:
    """The listening socket that the parent process passed as ``descriptor``.

    Raises:
        UnavailableError: It is no listening socket; it is closed then.
    """
    try:
        adopted = socket.socket(fileno=descriptor)
    except OSError as error:
        raise UnavailableError(f"descriptor {descriptor} is no socket: {reason_of(error)}") from None
    if not _listens(adopted):
        adopted.close()
        raise UnavailableError(f"descriptor {descriptor} is a socket that does not listen")
    adopted.setblocking(False)
    adopted.set_inheritable(False)  # it came inheritable; our own children must not hold it open
    return adopted


def bound_address(bound: socket.socket) -> Address:
    """Where ``bound`` listens."""
    name = bound.getsockname()
    return Address(str(name[0]).partition("%")[0], int(name[1]))


def holder_of(port: int) -> str:
    """Who listens at TCP ``port`` on this machine, as ``nginx (pid 7)``; empty where it can't be told."""
    import psutil

    try:
        for connection in psutil.net_connections(kind="tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        # macOS shows other processes' sockets to root only.
        return ""
    return ""


def _listens(bound: socket.socket) -> bool:
    try:
        return bool(bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        # macOS cannot tell; accept() will.
        return True


def _prepare(bound: socket.socket, family: int) -> None:
    if os.name == "nt":
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        # Without it a restart waits for the old connections' TIME_WAIT. Never SO_REUSEPORT (PROTOCOL 6).
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def _refusal(address: Address, flag: str, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen at {address}: {reason_of(error)}; choose another address with {flag}"
    holder = holder_of(address.port)
    by = f" by {holder}" if holder else ""
    return f"{address} is in use{by}; stop it, or choose another address with {flag} HOST:PORT"
