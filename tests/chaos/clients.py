"""Who uses the swarm during a run: clients of models, and a person who changes things. What they saw."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Mapping
from random import Random
from typing import TypeVar

from swarmplane.client import AsyncClient
from swarmplane.client.values import Policy
from swarmplane.errors import SwarmError
from tests.chaos.actors import Cast
from tests.chaos.invariants import Mutation, Request, Span
from tests.chaos.schedule import MODELS
from tests.e2e.storm import Kind, Shot
from tests.fakes.dataplane import Client

KINDS = (
    Kind("delay_s=0.05"),
    Kind("delay_s=0.1; size=20000", size=2_000),
    Kind("delay_s=0.02; chunks=8; interval_s=0.03", stream=True),
    Kind("chunks=30; interval_s=0.05", size=1_000, stream=True),
)
PATIENCE_S = 45.0
"""Longer than a sidecar waits for the first byte of an endpoint of which it knows nothing: 30 s."""
CLIENTS_PER_ENTRY = 2
T = TypeVar("T")


class Load:
    """Clients on keep-alive connections to every sidecar: ``rate`` requests a second at most, of all."""

    def __init__(self, cast: Cast, rate: float, random: Random) -> None:
        self._cast, self._random = cast, random
        self._every_s = len(cast.entries) * CLIENTS_PER_ENTRY / rate
        self.requests: list[Request] = []
        self.sorts: Counter[str] = Counter()
        self._over = asyncio.Event()

    def stop(self) -> None:
        """What runs is finished."""
        self._over.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for entry in self._cast.entries:
                for _ in range(CLIENTS_PER_ENTRY):
                    group.create_task(self._client(entry, Random(self._random.random())))

    async def _client(self, entry: str, random: Random) -> None:
        address, port = self._cast.entries[entry]
        await self._pause(random.random() * self._every_s)
        while not self._over.is_set():
            try:
                async with asyncio.timeout(5):
                    reader, writer = await asyncio.open_connection(address, port, limit=1 << 20)
            except OSError as error:
                now_s = time.monotonic()
                model = random.choice(list(MODELS))
                self.requests.append(Request(entry, model, Span(now_s, now_s), fine=False, said=repr(error)))
                await self._pause(1.0)
                continue
            try:
                http = Client(reader, writer, patience_s=PATIENCE_S)
                while not self._over.is_set() and await self._ask(http, entry, random):
                    pass
            finally:
                writer.transport.abort()

    async def _ask(self, http: Client, entry: str, random: Random) -> bool:
        """Whether the connection may be used again."""
        kind, model = random.choice(KINDS), random.choice(list(MODELS))
        shot = Shot(kind, model, self._cast.entries[entry][1], time.monotonic())
        messages = [{"role": "user", "content": "x" * kind.size}]
        closing = True
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await http.ask(
                    {"model": model, "stream": kind.stream, "messages": messages}, x_fake=kind.fake
                )
            shot.status, shot.whole, shot.text = answer.status, answer.whole, answer.body.decode()
            shot.node = answer.headers.get("x-swarm-node", "")
            shot.attempts = int(answer.headers.get("x-swarm-attempts", "0"))
            shot.events = answer.events if kind.stream and answer.status == 200 else []
            closing = answer.headers.get("connection") == "close"
        except (OSError, EOFError) as error:
            shot.text = repr(error)
        shot.ended_s = time.monotonic()
        span = Span(shot.began_s, shot.ended_s)
        self.requests.append(
            Request(entry, model, span, fine=shot.fine, served=shot.node, said="" if shot.fine else str(shot))
        )
        self.sorts[("stream" if kind.stream else "plain") + (" fine" if shot.fine else " failed")] += 1
        await self._pause(self._every_s * random.uniform(0.5, 1.5) - (shot.ended_s - shot.began_s))
        return shot.fine and not closing

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.01, seconds)):
                await self._over.wait()


class Person:
    """Makes and revokes tokens, sets policies, cordons, and removes hosts: one thing after another.

    ``hosts`` are enrolled and never run; the last of them is removed on the way.
    """

    def __init__(self, cast: Cast, instance: str, hosts: list[str], random: Random) -> None:
        self._cast, self._instance, self._hosts, self._random = cast, instance, hosts, random
        self.mutations: list[Mutation] = []
        self.refusals: Counter[str] = Counter()
        self._tokens: list[str] = []
        self._over = asyncio.Event()

    def stop(self) -> None:
        """What runs is finished."""
        self._over.set()

    async def run(self) -> None:
        removed = self._hosts[-1]
        turns = 0
        while not self._over.is_set():
            try:
                async with self._cast.client(self._instance) as swarm:
                    while not self._over.is_set():
                        turns += 1
                        await self._act(swarm, removed if turns == 40 else "")
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(self._random.uniform(0.1, 0.6)):
                                await self._over.wait()
            except SwarmError as error:
                self.refusals[error.code.name.lower()] += 1
                await asyncio.sleep(0.5)

    async def _act(self, swarm: AsyncClient, remove: str) -> None:
        """One mutation, noted with its outcome."""
        if remove:
            await self._note(f"node/{remove}", None, swarm.nodes.remove(remove))
            return
        match self._random.choice(("create", "create", "revoke", "policy", "cordon", "uncordon")):
            case "revoke" if self._tokens:
                token = self._tokens.pop(self._random.randrange(len(self._tokens)))
                await self._note(f"token/{token}", "revoked", swarm.tokens.revoke(token))
            case "policy":
                model = f"{self._instance}-{self._random.randrange(5)}"
                strategy = self._random.choice(("round_robin", "least_load", "local_first"))
                applied = swarm.policies.apply(Policy(model=model, strategy=strategy))
                await self._note(f"policy/{model}", strategy, applied)
            case "cordon":
                host = self._random.choice(self._hosts[:-1])
                await self._note(f"node/{host}", "cordoned", swarm.nodes.cordon(host))
            case "uncordon":
                host = self._random.choice(self._hosts[:-1])
                await self._note(f"node/{host}", "open", swarm.nodes.uncordon(host))
            case _:
                made = await self._note("", None, swarm.tokens.create(ttl_s=3600))
                if made is not None:
                    self._tokens.append(made.token.id)
                    self.mutations.append(
                        Mutation(f"token/{made.token.id}", "active", acknowledged=True, at_s=time.monotonic())
                    )

    async def _note(self, subject: str, value: str | None, doing: Awaitable[T]) -> T | None:
        """What it answered; None if it did not, and nobody knows whether it was done."""
        try:
            answer = await doing
        except SwarmError as error:
            self.refusals[error.code.name.lower()] += 1
            if subject:
                self.mutations.append(Mutation(subject, value, acknowledged=False, at_s=time.monotonic()))
            return None
        if subject:
            self.mutations.append(Mutation(subject, value, acknowledged=True, at_s=time.monotonic()))
        return answer


async def standing(cast: Cast, instance: str) -> Mapping[str, str]:
    """What the instance says of everything that a person may have changed."""
    found: dict[str, str] = {}
    async with cast.client(instance) as swarm:
        async for token in swarm.tokens.list():
            found[f"token/{token.id}"] = token.state
        async for policy in swarm.policies.list():
            found[f"policy/{policy.model}"] = policy.strategy
        async for node in swarm.nodes.list():
            found[f"node/{node.name}"] = "cordoned" if node.cordoned else "open"
    return found
