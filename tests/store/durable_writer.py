"""A process that writes and says what was acknowledged, until it is killed.

Several tasks count up keys of their own; each step also moves a mark from one key to another, in the same
transaction, so that half a transaction would show.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from controlplane.store.embedded import EmbeddedStore
from controlplane.store.port import Delete, Put, Store
from swarmplane.clock import SystemClock

WRITERS = 4


async def count(store: Store, writer: int) -> None:
    found = await store.get(f"n/{writer}")
    number = int(found.value) if found else 0
    while True:
        number += 1
        result = await store.transact(
            (),
            [
                Put(f"n/{writer}", b"%d" % number),
                Put(f"mark/{writer}/{number}", bytes(number % 5000)),
                Delete(f"mark/{writer}/{number - 1}"),
            ],
        )
        # One write call a line: a kill leaves whole lines and at most a torn last one.
        os.write(1, b"%d %d %d\n" % (writer, number, result.revision))


async def main() -> None:
    async with (
        EmbeddedStore.open(Path(sys.argv[1]), clock=SystemClock()) as store,
        asyncio.TaskGroup() as group,
    ):
        for writer in range(WRITERS):
            group.create_task(count(store, writer))


if __name__ == "__main__":
    asyncio.run(main())
