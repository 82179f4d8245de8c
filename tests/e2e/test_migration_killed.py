"""A migration that is killed where it hurts most, over TLS, and repeated: whole, and never two truths."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from controlplane.process.migrating import MARKER
from controlplane.process.moving import is_fenced
from controlplane.process.storing import holder_of
from controlplane.services import keyspace
from controlplane.settings import etcd_access
from controlplane.store.embedded import EmbeddedStore
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import Put
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.settings.load import load
from tests.e2e.hosts import Host, Swarm, eventually, swarmctl
from tests.e2e.test_founder_moves import _known
from tests.store.etcd_certificates import TestAuthority
from tests.store.etcd_server import WITHOUT, etcd_binary, running

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(240),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
]

MANY = 1_500
"""Keys beside the swarm's own: with 100 bytes each, a dozen batches."""


class Gate:
    """Passes bytes on to etcd until ``shut`` says so; from then on nothing more arrives there."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.passed = 0
        self.held = threading.Event()
        self.shut: Callable[[], bool] = lambda: False
        self._sockets: list[socket.socket] = [self._server]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target_port))
                self._sockets += [near, far]
                for work, ends in ((self._up, (near, far)), (self._down, (far, near))):
                    self._threads.append(threading.Thread(target=work, args=ends))
                    self._threads[-1].start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(4_096):
                if self.shut():
                    self.held.set()
                    continue
                self.passed += len(data)
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65_536):
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def _gate(port: int) -> Iterator[Gate]:
    gate = Gate(port)
    try:
        yield gate
    finally:
        gate.close()


async def _fill(data_dir: Path) -> None:
    async with EmbeddedStore.open(DataDir(data_dir).control_plane / "store.db", clock=SystemClock()) as store:
        for start in range(0, MANY, 100):
            puts = [Put(f"test/{n:05}", b"%0100d" % n) for n in range(start, start + 100)]
            await store.transact([], puts)


async def _there(data_dir: Path, flags: Sequence[str]) -> dict[str, bytes]:
    """Everything in etcd."""
    host = DataDir(data_dir)
    access = etcd_access(load(data_dir, flags))
    assert access is not None
    async with EtcdStore.open(access, holder=holder_of(host)) as store:
        return {kv.key: kv.value for kv in (await store.range("")).items}


def _kill_at(gate: Gate, shut: Callable[[], bool], host: Host, flags: Sequence[str]) -> None:
    """Start a migration, kill it as soon as ``shut`` holds, and let nothing of it arrive after that."""
    gate.held.clear()
    gate.shut = shut
    sets = [word for one in flags for word in ("--set", one)]
    command = [sys.executable, "-m", "controlplane.process.storekeeping", "migrate"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(host.data_dir), *sets],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        eventually("it comes to that point", gate.held.is_set, within_s=60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        gate.shut = lambda: False


def test_a_migration_that_is_killed_is_done_again(tmp_path: Path) -> None:
    authority, swarm = TestAuthority(), Swarm(tmp_path)
    certificate, key = authority.pair("etcd").write(tmp_path, "etcd")
    mine = authority.pair("swarm").write(tmp_path, "mine")
    ca = tmp_path / "etcd-ca.pem"
    ca.write_bytes(authority.pem)
    secure = [f"--cert-file={certificate}", f"--key-file={key}", f"--trusted-ca-file={ca}"]
    a = swarm.host("a")
    with (
        running(1, [*secure, "--client-cert-auth"], scheme="https") as etcd,
        _gate(etcd.members[0].port) as gate,
    ):
        try:
            a.up()
            before = _known(a)
            a.close()
            asyncio.run(_fill(a.data_dir))
            flags = [
                f'etcd.endpoints=["https://127.0.0.1:{gate.port}"]',
                f'etcd.ca_file="{ca}"',
                f'etcd.cert_file="{mine[0]}"',
                f'etcd.key_file="{mine[1]}"',
            ]
            for more in (30_000, 90_000):
                start = gate.passed
                _kill_at(gate, lambda: gate.passed > start + more, a, flags)  # noqa: B023 - called in this turn
                there = asyncio.run(_there(a.data_dir, flags))
                assert MARKER in there
                assert 0 < sum(one.startswith("test/") for one in there) < MANY, "half-way"
                assert keyspace.SWARM not in there
                assert not is_fenced(DataDir(a.data_dir)), "the source is the truth still"
            _kill_at(gate, lambda: is_fenced(DataDir(a.data_dir)), a, flags)
            there = asyncio.run(_there(a.data_dir, flags))
            assert sum(one.startswith("test/") for one in there) == MANY
            assert keyspace.SWARM not in there, "nobody's truth for now, and never two"
            names = ("--etcd", "--etcd-ca", "--etcd-cert", "--etcd-key")
            values = (f"https://127.0.0.1:{gate.port}", str(ca), *map(str, mine))
            words = [word for pair in zip(names, values, strict=True) for word in pair]
            done = swarmctl("store", "migrate", *words, data_dir=a.data_dir)
            assert (done.returncode, "is in etcd now" in done.stdout) == (0, True), done.stderr
            there = asyncio.run(_there(a.data_dir, flags))
            assert all(there[f"test/{n:05}"] == b"%0100d" % n for n in range(MANY))
            assert keyspace.SWARM in there
            assert MARKER not in there
            a.up()
            assert a.json("status")["store"]["kind"] == "etcd"
            assert _known(a) == before
        finally:
            swarm.close()
