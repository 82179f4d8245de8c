"""Who listens on this machine's loopback, and whose programs they are, where the system tells (Linux)."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS: Final = "0A"
_WORD: Final = 8
"""Hexadecimal digits of one word of an address; each word is in the machine's order of bytes."""
_SOCK_DIAG: Final = 4
"""NETLINK_SOCK_DIAG of <linux/netlink.h>."""
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI48x")
"""inet_diag_req_v2: family, protocol, extensions, padding, states; any addresses."""
_ANSWER: Final = struct.Struct("!BB2xH2x16s")
"""The begin of inet_diag_msg: family, state, port and address of the socket."""
_USER_AT: Final = 64
_BY_FAMILY: Final = 20
_DUMP: Final = 0x301
_ERROR: Final = 2
_DONE: Final = 3
_STATES: Final = 1 << 10
"""TCP_LISTEN alone: other sockets are not even looked at by the kernel."""
_ANSWER_S: Final = 0.2
_DYNAMIC: Final = range(61_184, 65_520)
"""Users that systemd makes up for services with ``DynamicUser``, and for nothing else."""
_DYNAMIC_NAME: Final = "Dynamic User"
_USUAL_UID_MIN: Final = 1000
_UNMAPPED: Final = 65_534
"""Stands for users that this user namespace does not know: they can't be told from each other."""
_WHOLE: Final = 2**32 - 1

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Listening:
    """Listening TCP sockets at one moment."""

    sockets: Mapping[int, tuple[tuple[_Address, int], ...]] = field(default_factory=dict)
    """By port: each with the address that it is bound to, and the number of the user it belongs to."""

    def users(self, host: str, port: int) -> frozenset[int]:
        """Whose sockets would take a connection to ``host``, an address or ``localhost``; empty: nobody's.

        As the kernel does, a socket bound to that very address is preferred to one bound to all.
        """
        found = self.sockets.get(port)
        if not found:
            return frozenset()
        hosts = ("127.0.0.1", "::1") if host.lower() == "localhost" else (host,)
        return frozenset(user for one in hosts for user in _takers(found, one))


def _takers(sockets: Iterable[tuple[_Address, int]], host: str) -> frozenset[int]:
    try:
        wanted = _plain(ipaddress.ip_address(host))
    except ValueError:
        return frozenset()
    wholes: tuple[_Address, ...] = (ipaddress.IPv6Address("::"),)
    if wanted.version == 4:  # noqa: PLR2004 - sockets of IPv6 take IPv4 too, unless they are told not to
        wholes = (ipaddress.IPv4Address("0.0.0.0"), *wholes)
    for address in (wanted, *wholes):
        users = frozenset(user for bound, user in sockets if bound == address)
        if users:
            return users
    return frozenset()


def read_listening() -> Listening | None:
    """Who listens now; None: this system does not tell. A tenth of a millisecond, whoever is connected."""
    if sys.platform != "linux":
        return None
    try:
        return _gathered((*_asked(socket.AF_INET), *_asked(socket.AF_INET6)))
    except (OSError, ValueError, struct.error):
        return listening_of(_TABLES)  # a kernel without sock_diag, or a sandbox: some milliseconds


def listening_of(tables: Iterable[Path]) -> Listening | None:
    """Who listens by ``/proc/net/tcp`` and ``tcp6``; None: none of them can be read.

    The kernel lists sockets that listen before all others (``tcp_seq_start``), so no more is read.
    """
    found: list[tuple[int, _Address, int]] = []
    read = False
    for table in tables:
        try:
            with table.open(encoding="ascii") as lines:
                next(lines, None)
                for line in lines:
                    columns = line.split(None, 8)
                    if columns[3] != _LISTENS:
                        break
                    address, _, port = columns[1].partition(":")
                    found.append((int(port, 16), _address(address), int(columns[7])))
            read = True
        except (OSError, ValueError, IndexError):
            continue  # without IPv6 there is one table only
    return _gathered(found) if read else None


def _asked(family: int) -> Iterator[tuple[int, _Address, int]]:
    """Port, address and user of each TCP socket of ``family`` that listens, as sock_diag(7) tells.

    Raises:
        OSError: It does not tell.
    """
    wanted = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as diag:  # type: ignore[attr-defined,unused-ignore]
        diag.settimeout(_ANSWER_S)
        diag.send(_HEADER.pack(_HEADER.size + len(wanted), _BY_FAMILY, _DUMP, 1, 0) + wanted)
        while True:
            data, at = diag.recv(65_536), 0
            while at < len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, at)
                if kind == _DONE:
                    return
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("sock_diag refuses to tell")
                body = at + _HEADER.size
                version, _, port, address = _ANSWER.unpack_from(data, body)
                (user,) = struct.unpack_from("=I", data, body + _USER_AT)
                raw = address[:4] if version == socket.AF_INET else address
                yield port, _plain(ipaddress.ip_address(raw)), user
                at += (length + 3) & ~3


def _gathered(found: Iterable[tuple[int, _Address, int]]) -> Listening:
    sockets: dict[int, tuple[tuple[_Address, int], ...]] = {}
    for port, address, user in found:
        sockets[port] = (*sockets.get(port, ()), (address, user))
    return Listening(sockets)


def _address(text: str) -> _Address:
    words = (text[at : at + _WORD] for at in range(0, len(text), _WORD))
    return _plain(ipaddress.ip_address(b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)))


def _plain(address: _Address) -> _Address:
    return getattr(address, "ipv4_mapped", None) or address


class Trust:
    """Whose servers are used without being named: root's, those of users of the system, and our own.

    Reads what the system says of its users once, when it is made. Lives on one thread.
    """

    def __init__(self, own: int | None = None, logins: Path = Path("/etc/login.defs")) -> None:
        self._own = own if own is not None else _own_uid()
        self._first_person = _uid_min(logins)
        self._whole = _all_users_known()
        self._named: dict[int, str] = {}

    def unknown(self, users: Iterable[int]) -> frozenset[int]:
        """Those of ``users`` who must be looked up, by :func:`stranger_called`, to be judged."""
        return frozenset(user for user in users if not self._trusts(user) and user not in self._named)

    def learn(self, names: Mapping[int, str]) -> None:
        """What :func:`stranger_called` said of users."""
        self._named.update(names)

    def stranger(self, users: Iterable[int]) -> str:
        """The name of the first of ``users`` who is not trusted; empty: all are, or can't be known."""
        strangers = (user for user in sorted(users) if not self._trusts(user))
        return next(filter(None, (self._named.get(user, f"user {user}") for user in strangers)), "")

    def _trusts(self, user: int) -> bool:
        return user == self._own or user < self._first_person or (user == _UNMAPPED and not self._whole)


def stranger_called(user: int) -> str:
    """What people call ``user``, who is none of the system's; empty: a service's, after all. It may block."""
    import pwd

    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return f"user {user}"
    return "" if user in _DYNAMIC and entry.pw_gecos == _DYNAMIC_NAME else entry.pw_name


def _own_uid() -> int:
    return os.geteuid() if sys.platform != "win32" else 0


def _uid_min(logins: Path) -> int:
    """The first number of people's users."""
    try:
        for line in logins.read_text(encoding="utf-8", errors="replace").splitlines():
            name, *values = line.split()[:2] or ("",)
            if name == "UID_MIN" and values and values[0].isdigit():
                return int(values[0])
    except OSError:
        pass
    return _USUAL_UID_MIN


def _all_users_known() -> bool:
    """Whether this user namespace has every user, as it has outside containers."""
    try:
        inside, outside, count = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False
    return (int(inside), int(outside)) == (0, 0) and int(count) >= _WHOLE
