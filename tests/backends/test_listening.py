"""Who listens on this machine: as the kernel tells it, and whom of them a host trusts by itself."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from sidecar.backends.listening import Trust, listening_of, read_listening, stranger_called

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a listening socket is")
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(local: str, user: int, state: str = "0A") -> str:
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {user:5} 0 1 1 0\n"


def tables(tmp_path: Path, four: str, six: str = "") -> tuple[Path, Path]:
    paths = tmp_path / "tcp", tmp_path / "tcp6"
    for path, rows in zip(paths, (four, six), strict=True):
        path.write_text(HEAD + rows)
    return paths


@linux
def test_the_kernel_names_the_user_of_a_listening_socket() -> None:
    """Kills: a wrong column, a wrong order of bytes, sockets of IPv6 left out."""
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six:
        four.bind(("127.0.0.1", 0))
        six.bind(("::1", 0))
        ports = [one.getsockname()[1] for one in (four, six)]
        before = read_listening()
        four.listen()
        six.listen()
        after = read_listening()
        assert before is not None
        assert after is not None
        mine = frozenset({os.geteuid()})
        assert [before.users(host, ports[0]) for host in ("127.0.0.1", "::1")] == [frozenset(), frozenset()]
        assert (after.users("127.0.0.1", ports[0]), after.users("::1", ports[0])) == (mine, frozenset())
        assert (after.users("::1", ports[1]), after.users("127.0.0.1", ports[1])) == (mine, frozenset())
        assert after.users("localhost", ports[0]) == mine


@linux
def test_who_is_bound_to_the_very_address_takes_its_connections(tmp_path: Path) -> None:
    four = row("0100007F:1F90", 1) + row("00000000:1F90", 2) + row("00000000:1F91", 3)
    six = row("00000000000000000000000000000000:1F92", 4) + row("0000000000000000FFFF00000100007F:1F93", 5)
    found = listening_of(tables(tmp_path, four, six))
    assert found is not None
    users = [found.users("127.0.0.1", port) for port in (8080, 8081, 8082, 8083, 8084)]
    assert users == [frozenset(one) for one in ({1}, {3}, {4}, {5}, ())]
    assert found.users("10.0.0.1", 8080) == {2}
    assert found.users("gpu.local", 8080) == frozenset()
    both = row("0100007F:1F90", 1), row("00000000000000000000000001000000:1F90", 7)
    double = listening_of(tables(tmp_path, *both))
    assert double is not None
    assert double.users("localhost", 8080) == {1, 7}


@linux
def test_connections_are_not_read(tmp_path: Path) -> None:
    """Kills: reading on after the first socket that does not listen."""
    rows = row("0100007F:1F90", 1) + row("0100007F:1F91", 1, "01") + "not a row\n"
    found = listening_of(tables(tmp_path, rows))
    assert found is not None
    assert set(found.sockets) == {8080}
    assert listening_of((tmp_path / "none",)) is None


@linux
def test_both_ways_of_asking_tell_the_same() -> None:
    """What only the kernel's tables tell is what is read where it can't be asked."""
    with socket.socket() as one, socket.socket(socket.AF_INET6) as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("::", 0))
        one.listen()
        other.listen()
        ports = [one.getsockname()[1], other.getsockname()[1]]
        asked = read_listening()
        told = listening_of((Path("/proc/net/tcp"), Path("/proc/net/tcp6")))
        assert asked is not None
        assert told is not None
        assert [asked.sockets[port] for port in ports] == [told.sockets[port] for port in ports]


@linux
def test_whom_a_host_trusts_by_itself(tmp_path: Path) -> None:
    logins = tmp_path / "login.defs"
    logins.write_text("# UID_MIN 5\n#UID_MIN 6\nUID_MIN\t\t 500\nUID_MAX 60000\n")
    trust = Trust(own=1234, logins=logins)
    assert trust.unknown({0, 499, 1234}) == frozenset()
    assert trust.stranger({0, 499, 1234}) == ""
    assert trust.unknown({0, 500, 61_500}) == {500, 61_500}
    trust.learn({500: "ann", 61_500: ""})  # a service of the system, with a user of its own
    assert (trust.unknown({500, 61_500}), trust.stranger({0, 500})) == (frozenset(), "ann")
    assert (trust.stranger({61_500}), trust.stranger({61_500, 500})) == ("", "ann")
    usual = Trust(own=1234, logins=tmp_path / "none")
    assert (usual.stranger({999}), usual.stranger({1000})) == ("", "user 1000")
    assert trust.stranger(()) == ""


@linux
def test_users_are_called_as_the_system_calls_them() -> None:
    assert stranger_called(0) == "root"
    assert stranger_called(61_500) == "user 61500"  # nobody's
