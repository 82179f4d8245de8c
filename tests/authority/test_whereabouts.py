"""An instance whose machine gets other addresses says so, wherever it said the old ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

from controlplane.process.whereabouts import EVERY_S, Addresses, Whereabouts
from controlplane.services import keyspace
from controlplane.services.instances import InstanceFacts, Instances
from controlplane.services.mirror import Mirror
from controlplane.store.embedded import EmbeddedStore
from swarmplane.clock import SystemClock
from swarmplane.codec import records
from swarmplane.ids import InstanceId, SwarmId
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock

BEFORE, AFTER = ("10.0.0.1:1",), ("10.0.0.2:1", "10.0.0.3:1")


async def test_addresses_are_looked_up_again_and_again() -> None:
    """Kills: looked up once; one of both kept; no network taken for a move; no address ever, found later."""
    found: list[tuple[Addresses, Addresses]] = [((), ())]
    clock = FakeClock()
    where = Whereabouts(lambda: found[0], clock)
    assert (where.control, where.join) == ((), ())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(where.run())
        for now, kept in (
            ((BEFORE, BEFORE), (BEFORE, BEFORE)),
            ((AFTER, BEFORE), (AFTER, BEFORE)),
            (((), ()), (AFTER, BEFORE)),
            ((AFTER, AFTER), (AFTER, AFTER)),
        ):
            found[0] = now
            await until(lambda: clock.sleepers == 1)
            await clock.advance(EVERY_S)
            await until(lambda: clock.sleepers == 1)
            assert (where.control, where.join) == kept
        running.cancel()


async def test_the_entry_in_the_store_follows(tmp_path: Path) -> None:
    """Kills: written at the start alone; written at every renewal; gone with the old lease."""
    clock = FakeClock()
    addresses: list[Addresses] = [BEFORE]
    facts = InstanceFacts(
        InstanceId("i"), SwarmId("s"), "s", "1", lambda: addresses[0], lambda: (), local_join="127.0.0.1:2"
    )
    async with EmbeddedStore.open(tmp_path / "store.db", clock=SystemClock()) as store:

        async def listed() -> tuple[str, ...]:
            kv = await store.get(keyspace.instance(InstanceId("i")))
            return () if kv is None else tuple(records.parse(records.Instance, kv.value).control_addresses)

        instances = Instances(store, Mirror(store, clock), clock, facts, ttl_s=30.0)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(instances.run())
            await until(lambda: clock.sleepers == 1)
            assert await listed() == BEFORE
            revision = await store.revision()
            await clock.advance(10.0)
            await until(lambda: clock.sleepers == 1)
            assert await store.revision() == revision
            addresses[0] = AFTER
            await clock.advance(10.0)
            await until(lambda: clock.sleepers == 1)
            assert await listed() == AFTER
            running.cancel()
