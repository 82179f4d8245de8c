"""A host while it runs: its processes in order, ``runtime.json``, and the stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cli.client.local import get_json
from cli.output import say
from cli.supervise.child import Child, Program
from cli.supervise.founding import enrol_own_node, here
from cli.supervise.notifying import STOPPING, tell
from cli.supervise.stopping import Stopping
from swarmplane.addresses import parse_address
from swarmplane.clock import Clock
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, SwarmError, UnavailableError, reason_of
from swarmplane.identity import is_joined, read_record
from swarmplane.runtime import Runtime, read_runtime, remove_runtime, write_runtime
from swarmplane.settings.schema import Settings

INTERRUPTED_DRAIN_S: Final = 10.0
_COUNT_S: Final = 0.5
_CONTROL_STOP_S: Final = 10.0
_HURRY_S: Final = 3.0
_WRITE_AGAIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    data_dir: DataDir
    settings: Settings
    overrides: tuple[str, ...]
    """Passed on to the processes."""
    founder: bool


Announce = Callable[[Runtime], Coroutine[None, None, None]]


class Host:
    """Runs ``plan`` on listening client sockets until a stop is asked for."""

    def __init__(self, plan: Plan, sockets: Sequence[socket.socket], clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._sockets = tuple(sockets)
        self._unwritten = False
        """Said once, and again after it could be written."""
        common = ["--data-dir", str(plan.data_dir.root)]
        for override in plan.overrides:
            common += ["--set", override]
        self._control = (
            Child(Program("controlplane", ("-m", "controlplane.main", *common)), plan.data_dir, clock)
            if plan.founder
            else None
        )
        descriptors = tuple(one.fileno() for one in sockets)
        passed = [argument for number in descriptors for argument in ("--client-fd", str(number))]
        self._sidecar = Child(
            Program("sidecar", ("-m", "sidecar.main", *common, *passed), descriptors), plan.data_dir, clock
        )

    async def run(self, stopping: Stopping, announce: Announce) -> None:
        """Start, announce, keep alive, and stop in reverse.

        Args:
            stopping: Ends the run, also while it starts.
            announce: Called once with what runs; it is cancelled at the stop.

        Raises:
            SwarmError: The host could not be started; what was started is stopped.
        """
        changed = asyncio.Event()
        remove_runtime(self._plan.data_dir)  # of a run that was killed
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._live(announce, changed, stopping))]
                tasks.append(group.create_task(stopping.watch()))
                asked = group.create_task(stopping.asked.wait())
                await asyncio.wait((asked, tasks[0]), return_when=asyncio.FIRST_COMPLETED)
                for task in (asked, *tasks):
                    task.cancel()
        finally:
            await self._stop(stopping)

    async def _live(self, announce: Announce, changed: asyncio.Event, stopping: Stopping) -> None:
        await self._start()
        runtime = self._runtime()
        if not self._write(runtime):
            changed.set()
        async with asyncio.TaskGroup() as group:
            for child in self._children():
                group.create_task(child.keep(stopping.asked, changed, say))
            group.create_task(self._rewrite(changed))
            group.create_task(self._reload(stopping.hung_up))
            await announce(runtime)

    async def _start(self) -> None:
        if self._control is not None and await self._instance_started(self._control):
            facts = self._control.facts
            # A free port that was taken once is taken again, or nobody would find the instance again.
            self._pin(self._control, control__listen="control", control__join_listen="join",
                      control__console_listen="console")  # fmt: skip
            await enrol_own_node(
                self._plan.data_dir,
                self._plan.settings,
                control=str(facts["control"]),
                join=str(facts["join"]),
            )
        await self._sidecar.start()
        self._pin(self._sidecar, admin__listen="admin", peer__listen="peer")

    async def _instance_started(self, control: Child) -> bool:
        """Whether the control plane serves; one of several may come later, its host serves without it.

        Raises:
            SwarmError: It does not, and this host has nothing to serve by.
        """
        try:
            await control.start()
        except (FailedPreconditionError, UnavailableError) as error:
            if not (self._plan.settings.etcd.endpoints and is_joined(self._plan.data_dir)):
                raise
            say(f"warning: {error.message}; this host serves what it knows, and starts it again")
            return False
        return True

    def _pin(self, child: Child, **keys: str) -> None:
        listeners = {
            "control": self._plan.settings.control_listener(),
            "join": self._plan.settings.join_listener(),
            "console": self._plan.settings.control.console_listen,
            "admin": self._plan.settings.admin.listen,
            "peer": self._plan.settings.peer.listen,
        }
        pins: list[str] = []
        for key, fact in keys.items():
            asked, got = listeners[fact], str(child.facts.get(fact) or "")
            if asked and got and parse_address(asked).port == 0:
                pins += ["--set", f"{key.replace('__', '.')}={got}"]
        child.program = replace(child.program, arguments=(*child.program.arguments, *pins))

    async def _rewrite(self, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            while not self._write(self._runtime()):
                await self._clock.sleep(_WRITE_AGAIN_S)

    async def _reload(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            told = [f"swarm-{child.name}" for child in self._children() if child.reload()]
            say(f"reload: {', '.join(told) or 'nobody'} reads the settings again")

    def _write(self, runtime: Runtime) -> bool:
        """Whether it could be written: a full disk must not end a host that serves."""
        try:
            write_runtime(self._plan.data_dir, runtime)
        except OSError as error:
            if not self._unwritten:
                where = self._plan.data_dir.runtime
                say(f"warning: {where} can't be written: {reason_of(error)}; it is tried again")
            self._unwritten = True
        else:
            self._unwritten = False
        return not self._unwritten

    def _runtime(self) -> Runtime:
        record = read_record(self._plan.data_dir)
        sidecar = self._sidecar.facts
        client = sidecar.get("client")
        clients = [str(one) for one in client] if isinstance(client, list) else []
        urls = {
            "client": f"http://{here(clients[0])}" if clients else "",
            "admin": f"http://{here(str(sidecar['admin']))}" if sidecar.get("admin") else "",
            "peer": f"https://{sidecar['peer']}" if sidecar.get("peer") else "",
        }
        if self._control is not None and self._control.facts:
            facts = self._control.facts
            urls["control"] = here(str(facts["control"]))
            urls["join"] = here(str(facts["join"]))
            urls["console"] = f"http://{here(str(facts['console']))}" if facts.get("console") else ""
        pids = {child.name: child.facts.get("pid") for child in self._children()}
        return Runtime(
            pid=os.getpid(),
            node_id=record.node_id if record else str(sidecar.get("node_id", "")),
            node_name=record.node_name if record else str(sidecar.get("node_name", "")),
            swarm=record.swarm_id if record else "",
            pids={name: pid for name, pid in pids.items() if isinstance(pid, int)},
            urls={name: url for name, url in urls.items() if url},
        )

    def _children(self) -> list[Child]:
        """In the order in which they stop: a sidecar takes its leave of the control plane."""
        return [self._sidecar, *([self._control] if self._control is not None else [])]

    async def _stop(self, stopping: Stopping) -> None:
        tell(STOPPING)
        self._say_draining()
        drain_s = INTERRUPTED_DRAIN_S if stopping.interrupted else self._plan.settings.drain_s + _HURRY_S
        if self._sidecar.running:
            await self._drain(stopping, drain_s)
        await self._sidecar.kill()
        if self._control is not None:
            self._control.terminate()
            await self._control.ended(_CONTROL_STOP_S)
            await self._control.kill()
        remove_runtime(self._plan.data_dir)

    def _say_draining(self) -> None:
        runtime = read_runtime(self._plan.data_dir)
        if runtime is not None:
            self._write(replace(runtime, draining=True))

    async def _drain(self, stopping: Stopping, drain_s: float) -> None:
        """Wait for the sidecar's streams, counting them for people; a second Ctrl-C ends the wait."""
        admin = str(self._sidecar.facts.get("admin") or "")
        self._sidecar.terminate()
        loop = asyncio.get_running_loop()
        ends_s, told = loop.time() + drain_s, -1
        while loop.time() < ends_s and not stopping.urgent.is_set():
            if await self._sidecar.ended(_COUNT_S):
                return
            left = await asyncio.to_thread(_streams_left, admin)
            if left > 0 and left != told:
                hint = " (Ctrl-C again stops now)" if stopping.interrupted else ""
                say(f"stopping: {left} request{'s' if left > 1 else ''} left{hint}")
                told = left
        # Again: a sidecar that is asked twice ends its streams properly, at once.
        self._sidecar.terminate()
        await self._sidecar.ended(_HURRY_S)


def _streams_left(admin: str) -> int:
    if admin:
        with contextlib.suppress(SwarmError):
            items = get_json(f"http://{here(admin)}", "/requests", timeout_s=1.0).get("items")
            return len(items) if isinstance(items, list) else 0
    return 0
