"""Sidecars as real processes, alone or enrolled by an authority of the test's own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sidecar.routing.disk import save_table
from swarmplane.codec.table import table_to_bytes
from swarmplane.credentials.authority import Authority, found_authority, issue
from swarmplane.credentials.files import Credential
from swarmplane.credentials.keys import new_private_key, private_key_to_pem
from swarmplane.credentials.names import node_subject
from swarmplane.datadir import DataDir
from swarmplane.identity import NodeRecord, write_identity
from swarmplane.ids import NodeId, SwarmId
from swarmplane.routes import Endpoint, ModelRoute, NodeEntry, RouteTable, Version

WAIT_S = 40.0


class Running:
    """A started sidecar."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.ready: Mapping[str, Any] = {}

    @property
    def ready_file(self) -> Path:
        return self.data_dir / "run" / "sidecar.json"

    @property
    def client(self) -> str:
        return f"http://{self.ready['client'][0]}"

    @property
    def admin(self) -> str:
        return f"http://{self.ready['admin']}"

    async def until_ready(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while not self.ready_file.exists():
                if self.process.returncode is not None:
                    raise AssertionError((await self.process.communicate())[1].decode())
                await asyncio.sleep(0.02)
        self.ready = json.loads(self.ready_file.read_text())

    async def ended(self) -> tuple[int, str]:
        async with asyncio.timeout(WAIT_S):
            _, words = await self.process.communicate()
        return self.process.returncode or 0, words.decode()


@asynccontextmanager
async def sidecar(data_dir: Path, *words: str, **how: Any) -> AsyncIterator[Running]:
    """Start one with free ports; killed at the end if it still runs."""
    listeners = ("--set", "client.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidecar.main", "--data-dir", str(data_dir), *listeners, *words,
        stderr=asyncio.subprocess.PIPE, **how,
    )  # fmt: skip
    running = Running(process, data_dir)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(WAIT_S):
            await process.communicate()


def backend_setting(port: int) -> tuple[str, str]:
    """A backend called ``fake`` on this machine."""
    return "--set", f'backends=[{{"url": "http://127.0.0.1:{port}", "name": "fake"}}]'


def free_port() -> int:
    """Nobody listens there now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Enrolment:
    """A swarm that consists of certificates: its control plane never answers."""

    def __init__(self, swarm: str = "testswarm") -> None:
        self.swarm = SwarmId(swarm)
        self.authority: Authority = found_authority(self.swarm, time.time())

    def enrol(self, data_dir: Path, node: str, *, lifetime_s: float | None = None) -> None:
        """Make ``data_dir`` that of the joined node ``node``."""
        key = new_private_key()
        subject = node_subject(NodeId(node), self.swarm)
        certificate = issue(self.authority, key.public_key(), subject, time.time(), lifetime_s=lifetime_s)
        record = NodeRecord(
            node, f"{node}-name", self.swarm, "test swarm", (f"127.0.0.1:{free_port()}",), (), "node"
        )
        credential = Credential(self.authority.certificate_pem, certificate, private_key_to_pem(key))
        write_identity(DataDir(data_dir), record, credential)

    def keep_table(
        self,
        data_dir: Path,
        endpoints: Sequence[Endpoint],
        peers: Mapping[str, str],
        denied: Sequence[str] = (),
    ) -> None:
        """Give it a table of the past: ``peers`` are peer addresses by node."""
        by_model: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            by_model.setdefault(endpoint.model, []).append(endpoint)
        table = RouteTable(
            self.swarm,
            Version(1, 7),
            MappingProxyType({m: ModelRoute(m, tuple(found)) for m, found in by_model.items()}),
            MappingProxyType(
                {n: NodeEntry(n, f"{n}-name", (address,), session=1) for n, address in peers.items()}
            ),
            denied=frozenset(denied),
        )  # type: ignore[arg-type]
        save_table(DataDir(data_dir).table, table_to_bytes, table)
