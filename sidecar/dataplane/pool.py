"""Connections to backends and peers, kept while they are worth keeping."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sidecar.dataplane.upstream import Upstream
from swarmplane.trusting import trust

_RESOLVED_S: Final = 30.0
"""A name is looked up again after this; only new connections wait for it."""
_USER_TIMEOUT_MS: Final = 3_000
"""Unacknowledged bytes to a peer end the connection after this."""
_LEAST_STAGGER_S: Final = 0.5

Verify = Callable[[ssl.SSLObject], None]
"""Raises if the other end is not who it must be."""


class Destination:
    """One place requests go to, with the connections that wait there for the next.

    Args:
        addresses: Host and port pairs, most preferred first.
        idle_s: How long a waiting connection is trusted.
        most_idle: More are closed.
        context: TLS, or None.
        public: TLS with the certificates this machine trusts, instead of ``context``.
        ca_file: Certificates trusted besides, where it is ``public``.
        server_name: The name its certificate must have.
        verify: Further checks after the handshake.
        peer: Whether it is another sidecar.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        *,
        idle_s: float,
        most_idle: int,
        context: ssl.SSLContext | None = None,
        public: bool = False,
        ca_file: Path | None = None,
        server_name: str | None = None,
        verify: Verify | None = None,
        peer: bool = False,
    ) -> None:
        self.addresses = tuple(addresses)
        self._idle_s = idle_s
        self._most_idle = most_idle
        self._context = context
        self._public = public
        self._ca_file = ca_file
        self._server_name = server_name
        self._verify = verify
        self.peer = peer
        self._idle: list[Upstream] = []
        self._resolved: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}
        self._good: tuple[str, int] | None = None
        self.made = 0
        self.label: object = None
        """Whatever its owner recognises it by."""
        self.used_s = time.monotonic()

    def adopt(self, *, idle_s: float, most_idle: int) -> None:
        """Keep connections for so long, and so many, from now on."""
        self._idle_s, self._most_idle = idle_s, most_idle
        while len(self._idle) > most_idle:
            self._idle.pop(0).abort()

    @property
    def idle(self) -> int:
        """Connections that wait."""
        return len(self._idle)

    def take(self) -> Upstream | None:
        """The connection used last, or None where none waits."""
        now_s = time.monotonic()
        self.used_s = now_s
        idle = self._idle
        while idle:
            upstream = idle.pop()
            # What ``usable`` says; it is asked for every request.
            if now_s < upstream.idle_until_s and not upstream.lost and not upstream.transport.is_closing():
                upstream.reused = True
                return upstream
            upstream.abort()
        return None

    def put(self, upstream: Upstream) -> None:
        """Keep a connection for the next request."""
        if len(self._idle) >= self._most_idle:
            upstream.abort()
            return
        upstream.idle_until_s = time.monotonic() + self._idle_s
        self._idle.append(upstream)

    def remove(self, upstream: Upstream) -> None:
        """A connection ended; it may have been waiting."""
        with contextlib.suppress(ValueError):
            self._idle.remove(upstream)

    def sweep(self, now_s: float) -> None:
        """Close what waited too long; the oldest stand first."""
        idle = self._idle
        while idle and (now_s >= idle[0].idle_until_s or not idle[0].usable):
            idle.pop(0).abort()

    def clear(self) -> None:
        """Close all that wait."""
        idle, self._idle = self._idle, []
        for upstream in idle:
            upstream.abort()

    def retire(self) -> None:
        """Close all that wait, and whatever is put back later: nobody takes from here any more."""
        self._most_idle = 0
        self.clear()

    async def connect(self, timeout_s: float) -> Upstream:
        """A new connection, to the first address that answers.

        Raises:
            OSError: None did; a time-out and a certificate that is not right are among them.
        """
        started_s = time.monotonic()
        last: OSError = OSError("no address")
        addresses = sorted(self.addresses, key=lambda address: address != self._good)
        for index, address in enumerate(addresses):
            left_s = timeout_s - (time.monotonic() - started_s)
            if left_s <= 0:
                break
            share_s = min(left_s, max(left_s / (len(addresses) - index), _LEAST_STAGGER_S))
            try:
                async with asyncio.timeout(share_s):
                    upstream = await self._connect(address)
            except (OSError, ValueError) as error:
                # ssl.CertificateError is a ValueError too; TimeoutError an OSError.
                last = error if isinstance(error, OSError) else OSError(str(error))
                continue
            self._good = address
            self.made += 1
            return upstream
        raise last

    async def _connect(self, address: tuple[str, int]) -> Upstream:
        loop = asyncio.get_running_loop()
        if self._public and self._context is None:
            # Reading the machine's certificates takes tens of milliseconds.
            self._context = await asyncio.to_thread(trust, self._ca_file)
        last: OSError = OSError("no address")
        for host in await self._resolve(address):
            try:
                _, upstream = await loop.create_connection(
                    lambda: Upstream(self),
                    host,
                    address[1],
                    ssl=self._context,
                    server_hostname=self._server_name if self._context is not None else None,
                )
            except OSError as error:
                last = error
                continue
            try:
                self._settle(upstream)
            except Exception as error:
                upstream.abort()
                raise OSError(f"the peer is not who it must be: {error}") from error
            return upstream
        raise last

    def _settle(self, upstream: Upstream) -> None:
        if self._verify is not None:
            self._verify(upstream.transport.get_extra_info("ssl_object"))
        if self.peer:
            guard_peer_socket(upstream.transport.get_extra_info("socket"))

    async def _resolve(self, address: tuple[str, int]) -> tuple[str, ...]:
        host, port = address
        if is_literal(host):
            return (host,)
        known = self._resolved.get(address)
        if known is not None and time.monotonic() - known[0] < _RESOLVED_S:
            return known[1]
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        hosts = tuple(dict.fromkeys(str(info[4][0]) for info in found))
        self._resolved[address] = (time.monotonic(), hosts)
        return hosts


class Pool:
    """Destinations by key; those long unused are forgotten."""

    def __init__(self) -> None:
        self._destinations: dict[object, Destination] = {}

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._destinations.values())

    def get(self, key: object) -> Destination | None:
        """The destination under ``key``."""
        return self._destinations.get(key)

    def add(self, key: object, destination: Destination) -> Destination:
        """Keep ``destination`` under ``key``; one that stood there is closed."""
        self.drop(key)
        self._destinations[key] = destination
        return destination

    def drop(self, key: object) -> None:
        """Close what waits under ``key`` and forget it."""
        before = self._destinations.pop(key, None)
        if before is not None:
            before.retire()

    def sweep(self, now_s: float, *, unused_s: float = 600.0) -> None:
        """Housekeeping."""
        for key, destination in tuple(self._destinations.items()):
            destination.sweep(now_s)
            if not destination.idle and now_s - destination.used_s > unused_s:
                self.drop(key)

    def clear(self) -> None:
        """Close all."""
        for key in tuple(self._destinations):
            self.drop(key)


def is_literal(host: str) -> bool:
    """Whether ``host`` is an IP address and needs no look-up."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def guard_peer_socket(sock: socket.socket | None) -> None:
    """Make a dead peer noticed within seconds: bytes it does not acknowledge end the connection."""
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
