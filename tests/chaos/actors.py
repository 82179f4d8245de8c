"""The processes of a run: members of etcd, instances, sidecars and backends. All but coroutines block."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cli.supervise.founding import enrol_instance, enrol_node
from swarmplane.client import AsyncClient
from swarmplane.credentials.join_token import parse_join_token
from swarmplane.datadir import DataDir
from swarmplane.settings.load import load
from tests.chaos.networks import Network, Place
from tests.chaos.schedule import ETCD, INSTANCES, MODELS, SIDECARS, Kind
from tests.chaos.watching import PREFIX
from tests.store.etcd_server import WITHOUT, etcd_binary, etcd_version

PATIENCE_S = 90.0
AGAIN_S = 1.0
HOLD_S = 20.0
"""Instead of 60: a run of 90 seconds shall see removals after an outage, too. Sidecars may pause for 15 s."""
FIRST_BYTE_FLOOR_S = 1.0


def wait_until(what: str, check: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """The first true answer."""
    ends_s = time.monotonic() + within_s
    while not (answer := check()):
        if time.monotonic() > ends_s:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(0.1)
    return answer


class Actor:
    """One process, started again after it was killed."""

    def __init__(
        self, name: str, place: Place, command: Sequence[str], log: Path, ready: Callable[[int], bool]
    ) -> None:
        self.name, self.place, self.log = name, place, log
        self._command, self._ready = [*place.command, *command], ready
        self._process: subprocess.Popen[bytes] | None = None
        self._again = False

    def start(self, *, wait: bool = True) -> None:
        """Start it; return when it serves."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"GRPC_VERBOSITY": "ERROR"},
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Return when it serves."""
        wait_until(f"{self.name} serves", self._serves)

    def _serves(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            if not self._again:
                raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {self.tail()}")
            # As `swarmctl up` and every supervisor does: an instance needs a store to start.
            time.sleep(AGAIN_S)
            self.start(wait=False)
        return self._ready(self._process.pid)

    @property
    def ended(self) -> int | None:
        """Status with which it ended by itself, or by a signal; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def tail(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-3000:]

    def disturb(self, kind: Kind) -> None:
        """Do it."""
        assert self._process is not None
        match kind:
            case Kind.KILL:
                self._process.kill()
                self._process.wait(20)
            case Kind.FREEZE:
                self._process.send_signal(signal.SIGSTOP)
            case Kind.CUT:
                self.place.cut()

    def release(self, kind: Kind) -> None:
        """Let go, and return when it serves."""
        assert self._process is not None
        match kind:
            case Kind.KILL:
                self._again = True
                self.start()
                self._again = False
            case Kind.FREEZE:
                self._process.send_signal(signal.SIGCONT)
            case Kind.CUT:
                self.place.heal()

    def close(self) -> None:
        """End it, however it is."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(20)


def fetch(url: str, timeout_s: float = 2.0) -> Any:
    """JSON of a GET; None if nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(url, headers={"host": "localhost"})
    with contextlib.suppress(OSError, ValueError), opener.open(asked, timeout=timeout_s) as answer:
        return json.load(answer)
    return None


class Cast:
    """All of them. :meth:`close` also removes what they wrote, unless ``keep``."""

    def __init__(self, root: Path, network: Network, *, keep: bool = False) -> None:
        self.root, self.network, self._keep = root, network, keep
        self.actors: dict[str, Actor] = {}
        self.backends: list[Actor] = []
        self.witnesses: list[Actor] = []
        self.watch = root
        self.entries: dict[str, tuple[str, int]] = {}
        self.admins: dict[str, str] = {}
        self.joins: dict[str, str] = {}
        self.controls: dict[str, str] = {}
        self.node_ids: dict[str, str] = {}
        self.endpoints: list[str] = []
        self._node_token = ""

    def data_dir(self, name: str) -> Path:
        return self.root / name

    async def start(self) -> None:
        """A swarm in which every sidecar knows every endpoint, watched from its first revision on."""
        await asyncio.to_thread(self._start_etcd)
        self.watch = self.witness("tests.chaos.watching")
        await self._start_instances()
        for name in SIDECARS:
            await self.enrol(name, INSTANCES[SIDECARS.index(name) % len(INSTANCES)])
            await asyncio.to_thread(self._start_sidecar, name)
        await asyncio.to_thread(self._settled)

    def _settled(self) -> None:
        for name in SIDECARS:
            self.actors[name].wait()
        for name in SIDECARS:
            self.wait_for_all(name)

    def wait_for_all(self, name: str, within_s: float = PATIENCE_S) -> None:
        """Return when the sidecar ``name`` has routes to all."""
        wait_until(f"{name} knows all", lambda: len(self.served(name)) == len(SIDECARS), within_s)

    def _start_etcd(self) -> None:
        binary = etcd_binary()
        assert binary is not None, WITHOUT
        ports = {name: (self.network.places[name].port(), self.network.places[name].port()) for name in ETCD}
        urls = {
            name: [f"http://{self.network.places[name].address}:{port}" for port in ports[name]]
            for name in ETCD
        }
        self.endpoints = [urls[name][0] for name in ETCD]
        cluster = ",".join(f"{name}={urls[name][1]}" for name in ETCD)
        old = ["--experimental-watch-progress-notify-interval=200ms"] if etcd_version() < (3, 5, 8) else []
        for name in ETCD:
            client, peer = urls[name]
            command = [
                str(binary),
                f"--name={name}",
                f"--data-dir={self.data_dir(name)}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster={cluster}",
                # What a killed process wrote is safe without a sync; only a machine that stops would lose it.
                "--unsafe-no-fsync",
                "--log-level=error",
                *old,
            ]
            self._add(
                name, command, lambda _, url=client: (fetch(f"{url}/health") or {}).get("health") == "true"
            )
            self.actors[name].start(wait=False)
        for name in ETCD:
            self.actors[name].wait()

    def witness(self, module: str, *arguments: str) -> Path:
        """Start a process that nothing is done to; the file that it writes."""
        name = module.rpartition(".")[2]
        path = self.root / f"{name}.jsonl"
        command = [sys.executable, "-m", module, str(path), *arguments, ",".join(self.endpoints)]
        one = Actor(name, Place("127.0.0.1"), command, self.root / f"{name}.log", lambda _: path.exists())
        self.witnesses.append(one)
        one.start(wait=False)
        return path

    def _add(self, name: str, command: Sequence[str], ready: Callable[[int], bool]) -> None:
        place = self.network.places[name]
        self.actors[name] = Actor(name, place, command, self.root / f"{name}.log", ready)

    async def _start_instances(self) -> None:
        first, *others = INSTANCES
        for name in INSTANCES:
            self._add_instance(name)
        await asyncio.to_thread(self.actors[first].start)
        async with self.client(first) as swarm:
            instances = await swarm.tokens.create("instance", uses=len(others))
            nodes = await swarm.tokens.create("node", uses=0)
        self._node_token = nodes.join_token
        for name in others:
            token = parse_join_token(instances.join_token)
            await enrol_instance(DataDir(self.data_dir(name)), self.joins[first], token)
            self.actors[name].start(wait=False)
        for name in others:
            await asyncio.to_thread(self.actors[name].wait)

    def client(self, name: str) -> AsyncClient:
        """As the admin of the host of an instance."""
        return AsyncClient.from_context(data_dir=self.data_dir(name))

    def _add_instance(self, name: str) -> None:
        place = self.network.places[name]
        control, join, console = (f"{place.address}:{place.port()}" for _ in range(3))
        self.joins[name], self.controls[name] = join, control
        command = [
            sys.executable, "-m", "controlplane.main", "--data-dir", str(self.data_dir(name)),
            "--control-listen", control, "--join-listen", join, "--console-listen", console,
            "--etcd", ",".join(self.endpoints), "--set", f"etcd.prefix={PREFIX}",
            "--set", f"control.removal_hold_s={HOLD_S}",
            "--log-format", "json", "--log-level", "debug",
        ]  # fmt: skip
        self._add(name, command, self._ready_file(name, "controlplane"))

    def _ready_file(self, name: str, process: str) -> Callable[[int], bool]:
        path = self.data_dir(name) / "run" / f"{process}.json"

        def ready(pid: int) -> bool:
            with contextlib.suppress(OSError, ValueError):
                return bool(json.loads(path.read_text())["pid"] == pid)
            return False

        return ready

    async def enrol(self, name: str, instance: str = INSTANCES[0]) -> str:
        """Enrol a host of this name, and return its node's id."""
        data_dir = DataDir(self.data_dir(name))
        settings = load(data_dir.root, [f'node.name="{name}"'])
        record = await enrol_node(
            data_dir, settings, self.joins[instance], parse_join_token(self._node_token)
        )
        self.node_ids[name] = record.node_id
        return str(record.node_id)

    def _start_sidecar(self, name: str) -> None:
        model = next(model for model, serving in MODELS.items() if name in serving)
        place = self.network.places[name]
        backend_port, listen, admin, peer = (place.port() for _ in range(4))
        backend = [sys.executable, "-m", "tests.fakes.backend", "--port", str(backend_port), "--model", model]
        log = self.root / f"{name}-backend.log"
        one = Actor(f"{name}'s backend", place, backend, log, lambda _: log.read_text().strip() != "")
        self.backends.append(one)
        one.start()
        self.entries[name] = (place.address, listen)
        self.admins[name] = f"http://{place.address}:{admin}"
        command = [
            sys.executable, "-m", "sidecar.main", "--data-dir", str(self.data_dir(name)), "--name", name,
            "--backend", f"http://127.0.0.1:{backend_port}", "--no-discover", "--no-mdns",
            "--listen", f"{place.address}:{listen}", "--admin-listen", f"{place.address}:{admin}",
            "--peer-listen", f"{place.address}:{peer}",
            "--set", f"upstream.first_byte_floor_s={FIRST_BYTE_FLOOR_S}", "--log-format", "json",
        ]  # fmt: skip
        self._add(name, command, self._ready_file(name, "sidecar"))
        self.actors[name].start(wait=False)

    def served(self, name: str) -> set[str]:
        """Nodes to which the sidecar ``name`` has routes; empty if it does not answer."""
        document = fetch(f"{self.admins[name]}/endpoints", 1.0)
        return {item["node"] for item in document["items"]} if document else set()

    def stream(self, name: str) -> tuple[bool, str]:
        """Whether the sidecar ``name`` has a control stream, and to which instance."""
        document = fetch(f"{self.admins[name]}/control", 1.0) or {}
        at = next((one for one, address in self.controls.items() if address == document.get("address")), "")
        return bool(document.get("connected")), at

    def close(self) -> None:
        for actor in [*self.witnesses, *self.actors.values(), *self.backends]:
            actor.close()
        if not self._keep:
            shutil.rmtree(self.root, ignore_errors=True)
        for name in ETCD:
            shutil.rmtree(self.data_dir(name), ignore_errors=True)
