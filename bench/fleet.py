"""Simulated sidecars: real gRPC streams, each on its own connection with its own certificate, in one process.

``python bench/fleet.py NODES JOIN_ADDRESS``, the join token on the first line of standard input. Then one
command a line, one JSON document back for each:

``connect``       open all streams; ends when each has its first table.
``settle S``      say load once a second for S seconds; counts what came.
``change``        the first node gets a new model; how long until each stream was told (p50, p99, all).
``lost S``        wait up to S seconds until every stream that broke is back somewhere; how long it took.
``stop``
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from sidecar.control.places import Places
from sidecar.control.reconnect import reconnect_delay_s
from sidecar.control.session import WELCOME_S, RejectedError
from swarmplane import features
from swarmplane.channels import control_channel
from swarmplane.codec.inventory import inventory_to_pb
from swarmplane.credentials.files import Credential
from swarmplane.credentials.join_token import parse_join_token
from swarmplane.enrollment import enroll
from swarmplane.errors import SwarmError
from swarmplane.ids import BackendName, random_id
from swarmplane.inventory import Backend, BackendModel, Inventory, ModelState
from swarmplane.v1 import sidecar_pb2 as pb
from swarmplane.v1 import sidecar_pb2_grpc
from swarmplane.v1.common_pb2 import Version

Call = grpc.aio.StreamStreamCall[pb.SidecarMessage, pb.ControlMessage]
MODELS = 10
"""Different models in the swarm; each node has one, so each has NODES / MODELS endpoints."""
USES = 2
"""Models that the clients of a node ask for."""
TOGETHER = 16
"""Nodes that enrol at the same time."""
TRIES = 3
"""To enrol."""


@dataclass
class Node:
    """One sidecar, as the control plane sees it."""

    number: int
    id: str
    credential: Credential
    places: Places
    incarnation: str = field(default_factory=random_id)
    call: Call | None = None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    welcomed_s: float = 0.0
    updated_s: float = 0.0
    version: Version | None = None
    heartbeat_s: float = 2.0
    load_interval_s: float = 1.0
    entries: int = 0
    digests: int = 0
    updates: int = 0
    connects: int = 0
    tries: int = 0
    sent_away: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    extra: bool = False
    uses: tuple[str, ...] = ()

    @property
    def up(self) -> bool:
        """Whether an instance holds its stream."""
        return self.call is not None

    async def send(self, call: Call, message: pb.SidecarMessage) -> None:
        """One message: a stream takes one at a time."""
        async with self.writing, asyncio.timeout(10):
            await call.write(message)

    def inventory(self) -> pb.Inventory:
        """What it has."""
        names = [f"model-{self.number % MODELS}"] + ([f"new-{random_id()}"] if self.extra else [])
        models = tuple(BackendModel(n, state=ModelState.LOADED, context_length=8192) for n in names)
        backend = Backend(BackendName("engine"), "openai", healthy=True, models=models, slots=4)
        return inventory_to_pb(Inventory((backend,), 2**34, 8))

    async def stay(self) -> None:
        """Connected, for ever: at the pace of the real sidecar, the next address after a failure."""
        lost_s, failures = time.monotonic(), 0
        while True:
            address = self.places.next()
            self.tries += 1
            again_s = 0.0
            try:
                await self._talk(address)
            except RejectedError as error:
                again_s = max(error.retry_after_s, 1.0)
                self.sent_away, self.reason = self.sent_away + 1, error.message
            except (SwarmError, grpc.aio.AioRpcError, ConnectionError, TimeoutError) as error:
                words = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                self.reason = words or type(error).__name__
                self.failures[self.reason[:120]] += 1
            if self.call is not None:
                self.call, lost_s, failures = None, time.monotonic(), 0
                self.places.lost(address)
            if again_s:
                await asyncio.sleep(again_s)
                continue
            lost_for_s = time.monotonic() - lost_s
            await asyncio.sleep(reconnect_delay_s(failures, lost_for_s, random.random()))
            failures += 1

    async def _talk(self, address: str) -> None:
        async with await control_channel(address, self.credential) as channel:
            call = sidecar_pb2_grpc.SidecarServiceStub(channel).Connect()
            hello = pb.Hello(
                node_id=self.id,
                incarnation=self.incarnation,
                features=features.ALL,
                peer_addresses=[
                    f"10.{self.number // 65536}.{self.number // 256 % 256}.{self.number % 256}:11403"
                ],
                software_version="bench",
                platform="bench",
            )
            if self.version is not None:
                hello.last_version.CopyFrom(self.version)
            async with asyncio.timeout(WELCOME_S) as limit:
                await self.send(call, pb.SidecarMessage(hello=hello))
                await self.send(call, pb.SidecarMessage(inventory=self.inventory()))
                while isinstance(first := await call.read(), pb.ControlMessage):
                    if first.WhichOneof("kind") != "in_line":
                        break
                    limit.reschedule(asyncio.get_running_loop().time() + WELCOME_S)
            if isinstance(first, pb.ControlMessage) and first.WhichOneof("kind") == "reject":
                raise RejectedError(first.reject)
            if not isinstance(first, pb.ControlMessage) or first.WhichOneof("kind") != "welcome":
                raise ConnectionError(f"answered with {first}")
            welcome = first.welcome
            self.places.learned([address, *welcome.control_addresses], ())
            self.heartbeat_s, self.load_interval_s = welcome.heartbeat_s, welcome.load_interval_s
            self.call, self.welcomed_s = call, time.monotonic()
            self.connects += 1
            while isinstance(message := await call.read(), pb.ControlMessage):
                await self._take(call, message)
            raise ConnectionError("the stream ended")

    async def _take(self, call: Call, message: pb.ControlMessage) -> None:
        match message.WhichOneof("kind"):
            case "route_update":
                update = message.route_update
                if not update.more:
                    self.version, self.updated_s = update.version, time.monotonic()
                    self.updates += 1
                    await self.send(
                        call, pb.SidecarMessage(ack=pb.Ack(version=update.version, nonce=update.nonce))
                    )
            case "policy_update":
                policy = message.policy_update
                await self.send(
                    call, pb.SidecarMessage(ack=pb.Ack(version=policy.version, nonce=policy.nonce))
                )
            case "load_digest":
                self.digests += 1
                self.entries += len(message.load_digest.endpoints)
                self.load_interval_s = message.load_digest.load_interval_s

    async def speak(self) -> None:
        """Load once a second (or as Welcome says, if slower) and heartbeats, each node at its own moment."""
        sequence = 0
        await asyncio.sleep(random.random())
        beat_due_s = time.monotonic() + random.random() * self.heartbeat_s
        while True:
            began_s = time.monotonic()
            call = self.call
            if call is not None:
                try:
                    async with asyncio.timeout(10):
                        await self.send(call, pb.SidecarMessage(load=self._load()))
                        if began_s >= beat_due_s:
                            sequence += 1
                            beat_due_s = began_s + self.heartbeat_s
                            await self.send(
                                call, pb.SidecarMessage(heartbeat=pb.Heartbeat(sequence=sequence))
                            )
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                    pass
            await asyncio.sleep(max(1.0, self.load_interval_s) - (time.monotonic() - began_s))

    def _load(self) -> pb.Load:
        busy = {self.id: random.randrange(3), "other": random.randrange(3)}
        endpoint = f"{self.id}/engine/model-{self.number % MODELS}"
        told = pb.EndpointLoad(endpoint_id=endpoint, in_flight_by_origin=busy, slots=4)
        return pb.Load(endpoints=[told], uses=self.uses)


class Fleet:
    """All of them."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    async def connect(self) -> dict[str, Any]:
        """Wait until each has a table."""
        began_s = time.monotonic()
        await self._until(lambda: all(n.updates for n in self.nodes), 120)
        return {
            "seconds": time.monotonic() - began_s,
            "up": sum(n.up for n in self.nodes),
            "tries": sum(n.tries for n in self.nodes),
            "sent_away": sum(n.sent_away for n in self.nodes),
            "failed": dict(sum((n.failures for n in self.nodes), Counter()).most_common(3)),
            "why": self._why(),
        }

    async def settle(self, seconds: float) -> dict[str, Any]:
        """What came in ``seconds``, a second."""
        before = self._counts()
        spent_s = time.process_time()
        await asyncio.sleep(seconds)
        after = self._counts()
        out = {name: (after[name] - before[name]) / seconds for name in before}
        out["fleet_cpu"] = (time.process_time() - spent_s) / seconds
        out["up"] = sum(n.up for n in self.nodes)
        return out

    async def change(self) -> dict[str, Any]:
        """A model more at the first; how long until the others were told."""
        first = self.nodes[0]
        before = {n.number: n.updates for n in self.nodes}
        first.extra = True
        began_s = time.monotonic()
        assert first.call is not None
        await first.send(first.call, pb.SidecarMessage(inventory=first.inventory()))
        await self._until(lambda: all(n.updates > before[n.number] for n in self.nodes), 20)
        took = sorted(n.updated_s - began_s for n in self.nodes if n.updates > before[n.number])
        late = [20.0] * (len(self.nodes) - len(took))
        p50_s, p99_s = ((took + late)[int(share * (len(self.nodes) - 1))] for share in (0.5, 0.99))
        return {"told": len(took), "p50_s": p50_s, "p99_s": p99_s}

    async def lost(self, seconds: float) -> dict[str, Any]:
        """Wait until those that lost their stream are back."""
        began_s = time.monotonic()
        connects = {n.number: n.connects for n in self.nodes}
        tries = sum(n.tries for n in self.nodes)
        failed = sum((n.failures for n in self.nodes), Counter())
        broken: set[int] = set()

        def back() -> bool:
            broken.update(n.number for n in self.nodes if not n.up or n.connects > connects[n.number])
            return bool(broken) and all(n.up for n in self.nodes) and time.monotonic() - began_s > 1

        await self._until(back, seconds)
        took = sorted(n.welcomed_s - began_s for n in self.nodes if n.number in broken and n.up)
        return {
            "broken": len(broken),
            "back": len(took),
            "p50_s": took[len(took) // 2] if took else -1,
            "max_s": took[-1] if took else -1,
            "tries": sum(n.tries for n in self.nodes) - tries,
            "failed": dict((sum((n.failures for n in self.nodes), Counter()) - failed).most_common(5)),
            "why": self._why(),
        }

    def _counts(self) -> dict[str, int]:
        return {name: sum(getattr(n, name) for n in self.nodes) for name in ("digests", "entries", "updates")}

    def _why(self) -> str:
        return next((n.reason for n in self.nodes if not n.up), "")

    async def _until(self, true: Callable[[], bool], limit_s: float) -> None:
        ends_s = time.monotonic() + limit_s
        while not true() and time.monotonic() < ends_s:  # noqa: ASYNC110 - looks at a thousand nodes
            await asyncio.sleep(0.02)


async def _enrol(count: int, address: str, token: str) -> list[Node]:
    wanted = parse_join_token(token)
    gate = asyncio.Semaphore(TOGETHER)

    async def one(number: int) -> Node:
        async with gate:
            for left in reversed(range(TRIES)):
                try:
                    got = await enroll(address, wanted, name=f"node-{number}", profile="node")
                    break
                except SwarmError:
                    if not left:
                        raise
        uses = tuple(f"model-{(number + step) % MODELS}" for step in range(USES))
        places = Places(got.control_addresses, ())
        return Node(number, got.subject_id, got.credential, places, uses=uses)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(count)]
    return [task.result() for task in tasks]


async def _main() -> None:
    count, address = int(sys.argv[1]), sys.argv[2]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    nodes = await _enrol(count, address, (await asyncio.to_thread(sys.stdin.readline)).strip())
    fleet = Fleet(nodes)
    print(json.dumps({"enrolled": len(nodes)}), flush=True)
    async with asyncio.TaskGroup() as group:
        running = []
        while True:
            line = (await asyncio.to_thread(sys.stdin.readline)).split()
            match line:
                case ["connect"]:
                    running = [group.create_task(work) for n in nodes for work in (n.stay(), n.speak())]
                    answer = await fleet.connect()
                case ["settle", seconds]:
                    answer = await fleet.settle(float(seconds))
                case ["change"]:
                    answer = await fleet.change()
                case ["lost", seconds]:
                    answer = await fleet.lost(float(seconds))
                case _:
                    for task in running:
                        task.cancel()
                    return
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    # As instances have it: what the sidecars take in their common process is not what is measured.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_main())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main())
