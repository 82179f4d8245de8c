"""Watches the whole store from its first revision on, through everything, and writes down what it is told.

A process of its own: ``python -m tests.chaos.watching FILE ENDPOINT,...``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from controlplane.store.etcd.access import EtcdAccess
from controlplane.store.etcd.store import EtcdStore
from controlplane.store.port import EventKind, KeyValue, StoreUnavailableError, WatchBatch
from swarmplane.codec import records
from tests.chaos.invariants import Write

PREFIX = "/chaos/"


def fields(kv: KeyValue | None) -> Mapping[str, object] | None:
    """What of a value matters to an invariant."""
    if kv is None:
        return None
    kind = kv.key.partition("/")[0]
    if kind == "elections":
        election = records.parse(records.Election, kv.value)
        return {"instance_id": election.instance_id, "epoch": election.epoch}
    if kind == "epochs":
        return {"value": records.parse(records.Counter, kv.value).value}
    if kind == "nodes":
        return {"gone": records.parse(records.Node, kv.value).gone}
    if kind == "routes":
        route = records.route_of(kv.value, kv.mod_revision)
        return {"nodes": sorted({str(endpoint.node) for endpoint in route.endpoints})}
    return {}


def writes(batch: WatchBatch, at_s: float) -> list[Write]:
    """Of one batch."""
    return [
        Write(
            batch.revision,
            event.kv.key,
            fields(event.kv) if event.kind is EventKind.PUT else None,
            fields(event.previous),
            at_s,
        )
        for event in batch.events
    ]


async def follow(store: EtcdStore, *, until: int = 0) -> AsyncIterator[list[Write]]:
    """Everything from the first revision on; to ``until`` if that is given."""
    async with store.watch("", start_revision=1) as batches:
        while True:
            try:
                batch = await anext(batches)
            except StoreUnavailableError:
                continue
            yield writes(batch, time.monotonic())
            if until and batch.revision >= until:
                return


def read(path: Path) -> list[Write]:
    """What a watcher wrote; the last line may be cut."""
    lines = path.read_text().splitlines(keepends=True)
    return [Write(**json.loads(line)) for line in lines if line.endswith("\n")]


def _document(write: Write) -> dict[str, Any]:
    return {name: getattr(write, name) for name in Write.__dataclass_fields__}


async def _main(output: TextIO, endpoints: str) -> None:
    async with EtcdStore.open(EtcdAccess.of(endpoints.split(","), prefix=PREFIX)) as store:
        async for told in follow(store):
            output.writelines(json.dumps(_document(write)) + "\n" for write in told)


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", buffering=1) as file:
        asyncio.run(_main(file, *sys.argv[2:]))
