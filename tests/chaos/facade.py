"""Clients of the store itself: what they asked and were answered is checked for linearizability afterwards.

A process of its own: ``python -m tests.chaos.facade FILE SEED ENDPOINT,...``, until it is told to stop.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, TextIO

from controlplane.store.etcd.access import EtcdAccess
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import Put, StoreUnavailableError, UncertainError, modified
from swarmplane.errors import UnavailableError
from tests.chaos.linearizable import Act, Operation

PREFIX = "/facade/"
KEYS = ("a", "b", "c", "d")
CLIENTS = 4
PAUSE_S = 0.12


class Client:
    """Asks one thing after another; each value is written once in a run, so it tells who wrote it."""

    def __init__(self, name: str, store: EtcdStore, random: Random, output: TextIO) -> None:
        self.name, self._store, self._random, self._output = name, store, random, output
        self._known: dict[str, tuple[str | None, int]] = {}
        self._count = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.0, 2 * PAUSE_S))
            key = self._random.choice(KEYS)
            act = self._random.choice((Act.GET, Act.GET, Act.PUT, Act.SWAP, Act.SWAP, Act.DELETE))
            if act is Act.SWAP and key not in self._known:
                act = Act.GET
            self._count += 1
            value = f"{self.name}-{self._count}" if act in {Act.PUT, Act.SWAP} else None
            expected, revision = self._known.get(key, (None, 0))
            called_s = time.monotonic()
            certain, answer, made = True, None, 0
            try:
                answer, made = await self._ask(act, key, value, revision)
            except UncertainError:
                certain = False
            except StoreUnavailableError:
                continue  # nothing was done, it says: if that is wrong, the value will be seen
            except UnavailableError:
                certain = False
            self._write(
                Operation(
                    self.name,
                    key,
                    act,
                    called_s,
                    time.monotonic(),
                    value,
                    expected if act is Act.SWAP else None,
                    answer,
                    certain,
                    made,
                )
            )

    async def _ask(
        self, act: Act, key: str, value: str | None, revision: int
    ) -> tuple[str | bool | None, int]:
        match act:
            case Act.GET:
                found = await self._store.get(key)
                text = found.value.decode() if found is not None else None
                self._known[key] = (text, found.mod_revision if found is not None else 0)
                return text, 0
            case Act.DELETE:
                return await self._store.delete(key), 0
            case Act.PUT:
                assert value is not None
                return True, await self._store.put(key, value.encode())
            case Act.SWAP:
                assert value is not None
                done = await self._store.transact([modified(key, revision)], [Put(key, value.encode())])
                return done.succeeded, done.revision if done.succeeded else 0

    def _write(self, operation: Operation) -> None:
        document = asdict(operation) | {"act": operation.act.value}
        self._output.write(json.dumps(document) + "\n")


def read(path: Path) -> list[Operation]:
    """What the clients wrote; the last line may be cut."""
    found = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            document: dict[str, Any] = json.loads(line)
            found.append(Operation(**document | {"act": Act(document["act"])}))
    return found


async def _main(output: TextIO, seed: str, endpoints: str) -> None:
    random = Random(seed)
    access = EtcdAccess.of(endpoints.split(","), prefix=PREFIX)
    # Each has a store of its own, as instances have.
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(_client(f"c{number}", access, Random(random.random()), output))


async def _client(name: str, access: EtcdAccess, random: Random, output: TextIO) -> None:
    async with EtcdStore.open(access, holder=name) as store:
        await Client(name, store, random, output).run()


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", buffering=1) as file:
        asyncio.run(_main(file, *sys.argv[2:]))
