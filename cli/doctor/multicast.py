"""A real test of multicast: a question to the group of mDNS, and what comes back of it."""

from __future__ import annotations

import errno
import secrets
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from cli.doctor.check import SkippedError
from swarmplane.advertise import ipv4, this_machine
from swarmplane.errors import reason_of

GROUP: Final = "224.0.0.251"
PORT: Final = 5353
LISTEN_S: Final = 2.5
_ASK_AGAIN_S: Final = 0.8
_TTL: Final = 255
_LARGEST: Final = 9_000
HELD: Final = f"another program keeps UDP port {PORT} for itself"
_SERVICE: Final = (b"_swarmplane", b"_tcp", b"local")
_PTR: Final = 12
_IN: Final = 1


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of the test."""

    interfaces: Mapping[str, str]
    """By own address: why nothing comes back; empty: it does."""
    neighbours: Mapping[str, bool]
    """By name of the swarm's hosts on the same networks: whether they answered."""


def question(token: bytes) -> bytes:
    """An mDNS query for members of swarms, and for a name that nobody has, by which it is known again."""

    def name(*labels: bytes) -> bytes:
        return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"

    asked = (name(*_SERVICE), name(token, *_SERVICE))
    head = struct.pack(">6H", 0, 0, len(asked), 0, 0, 0)
    return head + b"".join(one + struct.pack(">2H", _PTR, _IN) for one in asked)


class _Ear:
    """One socket for each own address, and what it heard."""

    def __init__(self, own: Sequence[str], opened: ExitStack) -> None:
        self.reasons = dict.fromkeys(own, f"nothing within {LISTEN_S:g} s")
        self.answered: set[str] = set()
        self._token = b"doctor-" + secrets.token_hex(6).encode()
        self._sockets: dict[str, socket.socket] = {}
        for address in own:
            try:
                self._sockets[address] = opened.enter_context(_member(address))
            except OSError as error:
                self.reasons[address] = HELD if error.errno == errno.EADDRINUSE else reason_of(error)

    @property
    def listening(self) -> bool:
        return bool(self._sockets)

    @property
    def whole(self) -> bool:
        """Whether every question came back that could be sent."""
        return not any(self.reasons[address] for address in self._sockets)

    def ask(self) -> None:
        for address, one in [*self._sockets.items()]:
            try:
                one.sendto(question(self._token), (GROUP, PORT))
            except OSError as error:
                self.reasons[address] = reason_of(error)
                del self._sockets[address]

    def hear(self) -> None:
        for address, one in self._sockets.items():
            content, source = _received(one)
            if self._token in content:
                self.reasons[address] = ""
            elif b"_swarmplane" in content:
                self.answered.add(source)


def listen_to_multicast(neighbours: Mapping[str, Sequence[str]]) -> Heard:
    """Ask the group on every interface that faces others, and listen for 2.5 s at most. It blocks.

    Args:
        neighbours: Addresses of the other hosts of the swarm, by name; those on other networks don't count.

    Raises:
        SkippedError: No interface faces others.
    """
    own = ipv4(this_machine())
    if not own:
        raise SkippedError("this machine is on no network")
    near = {name: set(found) for name, found in neighbours.items() if _near(found, own)}
    with ExitStack() as opened:
        ear = _Ear(own, opened)
        ends_s, ask_s = time.monotonic() + LISTEN_S, 0.0
        while time.monotonic() < ends_s and ear.listening:
            if time.monotonic() >= ask_s:
                ask_s = time.monotonic() + _ASK_AGAIN_S
                ear.ask()
            ear.hear()
            if ear.whole and all(found & ear.answered for found in near.values()):
                break
    return Heard(ear.reasons, {name: bool(found & ear.answered) for name, found in near.items()})


def _member(address: str) -> socket.socket:
    """A socket in the group on the interface of ``address``; it waits 50 ms for what arrives."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # BSDs share a port for SO_REUSEADDR alone at multicast addresses only; Windows binds none.
        one.bind(("" if sys.platform == "win32" else GROUP, PORT))
        interface = socket.inet_aton(address)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + interface)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        one.settimeout(0.05)
    except OSError:
        one.close()
        raise
    return one


def _received(one: socket.socket) -> tuple[bytes, str]:
    try:
        content, source = one.recvfrom(_LARGEST)
    except OSError:
        return b"", ""
    return content, str(source[0])


def _near(addresses: Sequence[str], own: Sequence[str]) -> bool:
    """Whether one of ``addresses`` is on a /24 of ours: multicast DNS does not cross routers."""
    networks = {address.rpartition(".")[0] for address in own}
    return any("." in one and one.rpartition(".")[0] in networks and one not in own for one in addresses)
