"""Backends that tell how much of a prompt was cached: how much they keep is learned from that."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sidecar.core.prefix_index import REPLICA_BLOCKS
from sidecar.telemetry.assembly import Telemetry
from sidecar.telemetry.policy import TelemetryPolicy
from swarmplane.ids import EndpointId
from tests.fakes.backend import Behaviour, FakeBackend, Seen
from tests.fakes.dataplane import Node, Served, client, running_node

BLOCKS = 8
"""Of a prompt; a token has four bytes here, as it is guessed to have."""
KEPT, PROMPTS = 4, 24


@dataclass
class TellingBackend(FakeBackend):
    """Keeps the last few prompts, and tells of each how much it had."""

    kept: dict[str, None] = field(default_factory=dict)
    hits: int = 0
    tells: bool = True

    def behaviour(self, seen: Seen) -> Behaviour:
        prompt = json.loads(seen.body)["messages"][0]["content"]
        hit = prompt in self.kept
        self.hits += hit
        self.kept.pop(prompt, None)
        self.kept[prompt] = None
        if len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]
        usage: dict[str, object] = {"prompt_tokens": BLOCKS * 256, "completion_tokens": 1}
        if self.tells:
            usage["prompt_tokens_details"] = {"cached_tokens": BLOCKS * 256 if hit else 0}
        answer = {"model": "m1", "choices": [], "usage": usage}
        return Behaviour(delay_s=0.005 if hit else 0.03, body=json.dumps(answer))


@contextlib.asynccontextmanager
async def two(*, tell: bool) -> AsyncIterator[tuple[Node, list[TellingBackend]]]:
    fakes = [TellingBackend(tells=tell) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        for fake in fakes:
            await fake.start()
            stack.push_async_callback(fake.stop)
        telemetry = Telemetry(TelemetryPolicy(), identity={}, version="1")
        served = {f"b{place}": Served(fake, slots=2) for place, fake in enumerate(fakes)}
        node = await stack.enter_async_context(
            running_node(served=served, telemetry=telemetry, draw=random.Random(7).random)
        )
        balancer = node.routes.balancer
        telemetry.tell(balancer.history.decoded, balancer.cache_told)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        running = group.create_task(telemetry.run())
        yield node, fakes
        running.cancel()


async def asked(node: Node, requests: int) -> None:
    order = random.Random(3)
    left = iter([f"{order.randrange(PROMPTS):02} " * (BLOCKS * 1024 // 3) for _ in range(requests)])

    async def worker() -> None:
        async with client(node) as one:
            for prompt in left:
                messages = [{"role": "system", "content": prompt}, {"role": "user", "content": "hi"}]
                body = {"model": "m1", "messages": messages}
                assert (await one.ask(body, x_swarm_strategy="least_cost")).status == 200

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(worker())


def believed(node: Node) -> list[int]:
    """Blocks that each backend is believed to keep."""
    known = node.routes.balancer.prefixes.of("m1")
    return [known[EndpointId(f"{node.id}/b{place}/m1")].capacity for place in range(2)]


async def test_what_answers_tell_of_caches_is_learned() -> None:
    """Each keeps 4 of 24 prompts of 8 blocks, and nobody knows that beforehand. Measured: 16 to 34 blocks."""
    async with two(tell=True) as (node, fakes):
        await asked(node, 300)
        assert all(fake.hits for fake in fakes)
        assert all(16 <= blocks <= 2 * KEPT * BLOCKS for blocks in believed(node)), believed(node)


async def test_of_those_who_do_not_tell_nothing_is_learned() -> None:
    async with two(tell=False) as (node, _):
        await asked(node, 50)
        assert believed(node) == [REPLICA_BLOCKS, REPLICA_BLOCKS]
