"""Any sequence of calls gives what a dict with a history gives, and watches tell that history.

Mutants of the embedded store that tests/store kills, each tried alone; :mod:`tests.store.mutants` has those
that ``make test-mutants`` tries again:

- lists: the end of a prefix one too far; an empty prefix that ends before the last key; ``start_after``
  inclusive; ``more`` when the limit is met exactly; a past read that sees the next revision or deleted keys,
  or overlooks a deletion; a page that names the newest revision; reads at the compacted revision refused
- transactions: a revision for what changes nothing; ``create_revision`` new with each put; a deleted key that
  stays; one compare enough; ``otherwise`` not read or not checked; leases looked up before the compares, or
  never; a key put twice, put and deleted, or put under a deleted prefix; limits one off either way; a key's
  length counted in characters
- watches: started one early or late; other prefixes' events; a batch repeated or left out where memory meets
  history, or between pages of history; a page cut within a revision; a deleted or the oldest version as
  ``previous``; the neighbour of a prefix; no waking; memory unbounded by count or by bytes; an idle watch
  left behind; a bookmark repeated for ever; closing or leaving that goes unnoticed
- compaction: off by one, of reads, of watches and of what is swept, either way; deletions swept early or
  never; one step only; forgotten by reopening; the same revision twice; the future
- leases: the old lease kept by a put without one; an ended lease renewed; renewal without effect; a gap not
  added, added twice, too small or too large; late ends; ended leases given up after a failure; several
  revisions for one revoke; lease rows left behind or not durable
- commits: acknowledged or published before; published after the acknowledgement; rolled back but the revision
  or the events kept; revision not durable; going on after a failed sync; queued writes lost at the close; the
  queue without a bound, or never emptied
- the file: no lock, no check, rights too wide on an existing file; history kept too long or not long enough

Not killed, as nothing can tell: rights of a new file too wide until the next call narrows them.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.store.port import (
    CompactedError,
    Compare,
    Delete,
    DeletePrefix,
    Event,
    EventKind,
    FutureRevisionError,
    KeyValue,
    LeaseNotFoundError,
    Operation,
    Put,
    Store,
    WatchBatch,
    absent,
    created,
    modified,
)
from tests.store.harness import EmbeddedHarness, Harness, take

KEYS = ["a", "a/", "a/1", "a/2", "a0", "b", "é", "\U0010ffff"]
PREFIXES = ["", "a", "a/", "b", "é", "none"]


@dataclass
class Model:
    """The contract in its plainest form."""

    now: dict[str, KeyValue] = field(default_factory=dict)
    past: list[dict[str, KeyValue]] = field(default_factory=lambda: [{}, {}])
    """All keys by revision."""
    batches: dict[int, tuple[Event, ...]] = field(default_factory=dict)
    leases: list[int] = field(default_factory=list)
    compacted: int = 0

    @property
    def revision(self) -> int:
        return len(self.past) - 1

    def apply(self, operations: list[Operation]) -> None:
        events: list[Event] = []
        revision = self.revision + 1
        for operation in operations:
            if isinstance(operation, Put):
                before = self.now.get(operation.key)
                since = before.create_revision if before else revision
                kv = KeyValue(operation.key, operation.value, since, revision, operation.lease)
                self.now[operation.key] = kv
                events.append(Event(EventKind.PUT, kv, before))
                continue
            prefix = operation.prefix if isinstance(operation, DeletePrefix) else operation.key
            for key in sorted(self.now, key=str.encode):
                if key == prefix or (isinstance(operation, DeletePrefix) and key.startswith(prefix)):
                    before = self.now.pop(key)
                    events.append(Event(EventKind.DELETE, KeyValue(key, b"", 0, revision), before))
        if events:
            self.past.append(dict(self.now))
            self.batches[revision] = tuple(events)

    def listed(self, prefix: str, revision: int = 0) -> list[KeyValue]:
        keys = self.past[revision or self.revision]
        return [keys[key] for key in sorted(keys, key=str.encode) if key.startswith(prefix)]

    def watched(self, prefix: str, start: int) -> list[WatchBatch]:
        found = []
        for revision, events in self.batches.items():
            wanted = tuple(event for event in events if event.kv.key.startswith(prefix))
            if revision >= start and wanted:
                found.append(WatchBatch(wanted, revision))
        return found


keys = st.sampled_from(KEYS)
prefixes = st.sampled_from(PREFIXES)
numbers = st.integers(0, 40)
values = st.binary(max_size=3)
puts = st.builds(Put, keys, values)
deletes = st.one_of(st.builds(Delete, keys), st.builds(DeletePrefix, prefixes))
steps = st.one_of(
    st.tuples(st.just("transact"), st.lists(puts, max_size=4, unique_by=lambda put: put.key)),
    st.tuples(st.just("transact"), st.lists(deletes, max_size=3)),
    st.tuples(st.just("compare"), st.tuples(keys, numbers, st.sampled_from(["absent", "was", "is"]), values)),
    st.tuples(st.just("list"), st.tuples(prefixes, st.one_of(st.just(""), keys), st.integers(0, 4), numbers)),
    st.tuples(st.just("grant"), st.none()),
    st.tuples(st.just("lease"), st.tuples(keys, numbers)),
    st.tuples(st.just("revoke"), numbers),
    st.tuples(st.just("compact"), numbers),
    st.tuples(st.just("reopen"), st.none()),
)


async def compare(store: Store, model: Model, key: str, number: int, kind: str, value: bytes) -> None:
    there = model.now.get(key)
    compares: dict[str, Compare] = {
        "absent": absent(key),
        "was": created(key, number),
        "is": modified(key, there.mod_revision if there else number),
    }
    chosen = compares[kind]
    holds = chosen.holds(there)
    result = await store.transact([chosen], [Put(key, value)], otherwise=[key, "none"])
    assert result.succeeded is holds
    if holds:
        model.apply([Put(key, value)])
        assert result.reads == ()
    else:
        assert result.reads == (there, None)
    assert result.revision == model.revision


async def list_page(store: Store, model: Model, prefix: str, after: str, limit: int, revision: int) -> None:
    if revision > model.revision:
        with pytest.raises(FutureRevisionError):
            await store.range(prefix, revision=revision)
    elif 0 < revision < model.compacted:
        with pytest.raises(CompactedError):
            await store.range(prefix, revision=revision)
    else:
        page = await store.range(prefix, start_after=after, limit=limit, revision=revision)
        wanted = [kv for kv in model.listed(prefix, revision) if kv.key.encode() > after.encode()]
        assert list(page.items) == (wanted[:limit] if limit else wanted)
        assert page.more is (0 < limit < len(wanted))
        assert page.revision == (revision or model.revision)


async def revoke(store: Store, model: Model, number: int) -> None:
    if number >= len(model.leases):
        with pytest.raises(LeaseNotFoundError):
            await store.revoke(number + 1)
        return
    lease = model.leases.pop(number)
    await store.revoke(lease)
    held = sorted((key for key, kv in model.now.items() if kv.lease == lease), key=str.encode)
    model.apply([Delete(key) for key in held])


async def compact(store: Store, model: Model, revision: int) -> None:
    if revision > model.revision:
        with pytest.raises(FutureRevisionError):
            await store.compact(revision)
    elif revision <= model.compacted:
        with pytest.raises(CompactedError):
            await store.compact(revision)
    else:
        await store.compact(revision)
        model.compacted = revision


async def step(store: Store, model: Model, name: str, given: Any) -> None:
    match name, given:
        case "transact", [*operations]:
            result = await store.transact((), operations)
            model.apply(operations)
            assert (result.succeeded, result.revision) == (True, model.revision)
        case "compare", (key, number, kind, value):
            await compare(store, model, key, number, kind, value)
        case "list", (prefix, after, limit, revision):
            await list_page(store, model, prefix, after, limit, revision % (model.revision + 2))
        case "grant", _:
            model.leases.append(await store.grant(60))
        case "lease", (key, number) if model.leases:
            leased = Put(key, b"leased", model.leases[number % len(model.leases)])
            await store.transact((), [leased])
            model.apply([leased])
        case "lease", (key, number):
            with pytest.raises(LeaseNotFoundError):
                await store.put(key, b"leased", lease=number + 1)
        case "revoke", int(number):
            await revoke(store, model, number % (len(model.leases) + 1))
        case "compact", int(revision):
            await compact(store, model, revision % (model.revision + 2))
    assert await store.revision() == model.revision
    for key in KEYS:
        assert await store.get(key) == model.now.get(key)


async def check_watches(store: Store, model: Model) -> None:
    """From every revision that is kept; where the past is cut off, what was before may be forgotten."""
    for prefix in PREFIXES:
        for start in range(max(1, model.compacted), model.revision + 1):
            wanted = model.watched(prefix, start)
            async with store.watch(prefix, start_revision=start) as batches:
                seen = await take(batches, len(wanted))
            assert [forgetful(batch, model.compacted) for batch in seen] == [
                forgetful(batch, model.compacted) for batch in wanted
            ]


def forgetful(batch: WatchBatch, compacted: int) -> WatchBatch:
    return WatchBatch(
        tuple(
            Event(event.kind, event.kv)
            if event.previous and event.previous.mod_revision < compacted
            else event
            for event in batch.events
        ),
        batch.revision,
    )


async def play(harness: Harness, moves: list[tuple[str, object]]) -> None:
    model = Model()
    # Something to begin with: from nothing, few of the drawn moves would meet anything.
    start: list[Operation] = [Put("a/1", b""), Put("a/2", b""), Put("b", b"")]
    remaining = [("transact", start), ("transact", [Delete("b")]), *moves]
    while True:
        async with harness.open() as store, store.watch("") as live:
            first = model.revision + 1
            while remaining:
                name, given = remaining.pop(0)
                if name == "reopen":
                    break
                await step(store, model, name, given)
            wanted = model.watched("", first)
            assert await take(live, len(wanted)) == wanted
            if not remaining:
                await check_watches(store, model)
                break
    async with harness.open() as store:
        assert list((await store.range("")).items) == model.listed("")
        await check_watches(store, model)


@pytest.mark.timeout(300)  # A slow disk syncs some thousand times.
@given(st.lists(steps, max_size=30))
def test_any_sequence_of_calls_gives_what_a_dict_with_a_history_gives(
    moves: list[tuple[str, object]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(EmbeddedHarness(Path(directory) / "store.db"), moves))
