"""Does what the schedule says, and looks on: who was disturbed when, who decides, what tables say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from swarmplane.codec import records
from tests.chaos.actors import HOLD_S, Actor, Cast
from tests.chaos.invariants import ELECTION, Circumstances, Sample, Span, vacancies, waits
from tests.chaos.schedule import ETCD, INSTANCES, SIDECARS, Fault
from tests.chaos.watching import PREFIX

LOOK_S = 0.5
WAITS = {"removals.waiting", "removals.waited"}


def tell(what: str) -> None:
    """For who runs it."""
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


class Director:
    """``downs``: per name, from just before something was done to it until it served again."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self.downs: dict[str, list[Span]] = {}
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    async def run(self, faults: Sequence[Fault]) -> None:
        """All of ``faults``; returns when everybody was let go and serves again."""
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._fault(fault, began_s))

    async def _fault(self, fault: Fault, began_s: float) -> None:
        await asyncio.sleep(began_s + fault.at_s - time.monotonic())
        tell(str(fault))
        self.counts[fault.kind.value] += len(fault.targets)
        async with asyncio.TaskGroup() as group:
            for name in fault.targets:
                group.create_task(self._one(fault, self._cast.actors[name]))

    async def _one(self, fault: Fault, actor: Actor) -> None:
        spans = self.downs.setdefault(actor.name, [])
        place = len(spans)
        spans.append(Span(time.monotonic(), float("inf")))
        try:
            await asyncio.to_thread(actor.disturb, fault.kind)
            await asyncio.sleep(fault.for_s)
            await asyncio.to_thread(actor.release, fault.kind)
            spans[place] = Span(spans[place].begins_s, time.monotonic())
        except (RuntimeError, TimeoutError) as error:
            self.failures.append(f"after {fault}: {error}")

    def disturbed(self, name: str, at_s: float) -> bool:
        return any(span.begins_s <= at_s <= span.ends_s for span in self.downs.get(name, ()))


def _post(url: str, document: Mapping[str, Any]) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(url, json.dumps(document).encode())
    with contextlib.suppress(OSError, ValueError), opener.open(asked, timeout=1.0) as answer:
        return json.load(answer)
    return None


class Sentinel:
    """Looks twice a second at etcd's term, at who is elected, and at every sidecar's table."""

    def __init__(self, cast: Cast, director: Director) -> None:
        self._cast, self._director = cast, director
        self.samples: list[Sample] = []
        self.leader_changes_s: list[float] = []
        self.blind: list[Span] = []
        self.reigns: list[tuple[float, str]] = []
        """Who was elected at each look; empty: nobody, or nobody knows."""
        self._terms: set[int] = set()
        self._ids: dict[str, str] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._etcd())
            for name in SIDECARS:
                group.create_task(self._table(name))

    async def _table(self, name: str) -> None:
        while True:
            asked_s = time.monotonic()
            nodes = await asyncio.to_thread(self._cast.served, name)
            if nodes:
                connected, instance = await asyncio.to_thread(self._cast.stream, name)
                self.samples.append(Sample(asked_s, name, frozenset(nodes), connected, instance))
            await asyncio.sleep(2 * LOOK_S)

    async def _etcd(self) -> None:
        before_s = time.monotonic()
        while True:
            holder, term = await asyncio.to_thread(self._elected)
            now_s = time.monotonic()
            if term and term not in self._terms:
                if self._terms:
                    self.leader_changes_s.append(now_s)
                self._terms.add(term)
            self.reigns.append((now_s, holder))
            if not holder or self._director.disturbed(holder, now_s):
                self.blind.append(Span(before_s, now_s))
            before_s = now_s
            await asyncio.sleep(LOOK_S)

    def _elected(self) -> tuple[str, int]:
        """The elected instance by its name, as a majority of etcd has it, and etcd's term."""
        key = base64.b64encode((PREFIX + ELECTION).encode()).decode()
        for name, url in zip(ETCD, self._cast.endpoints, strict=True):
            if self._director.disturbed(name, time.monotonic()):
                continue
            answer = _post(f"{url}/v3/kv/range", {"key": key})
            if answer is None:
                continue
            term = int(answer["header"]["raft_term"])
            if not answer.get("kvs"):
                return "", term
            election = records.parse(records.Election, base64.b64decode(answer["kvs"][0]["value"]))
            return self._instance(election.instance_id), term
        return "", 0

    def _instance(self, instance_id: str) -> str:
        """The name of the one with this id in its present or an earlier life."""
        for name in INSTANCES:
            with contextlib.suppress(OSError, ValueError, KeyError):
                path = self._cast.data_dir(name) / "run" / "controlplane.json"
                self._ids[str(json.loads(path.read_text())["instance_id"])] = name
        return self._ids.get(instance_id, "")

    def circumstances(self, logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Circumstances:
        """What may have delayed removals: only holds of one that was elected then count."""
        holds = []
        for name, entries in logs.items():
            begun = [e["at_s"] for e in entries if e["event"] in {"removals.held", "membership.paused"}]
            waited = [(e["at_s"], e["event"] == "removals.waiting") for e in entries if e["event"] in WAITS]
            for span in [*(Span(at_s, at_s + HOLD_S) for at_s in begun), *waits(waited)]:
                reigned = {who for at_s, who in self.reigns if span.begins_s - 1 <= at_s <= span.ends_s + 2}
                if name in reigned:
                    holds.append(span)
        entries = [entry for of_one in logs.values() for entry in of_one]
        vacant = vacancies(
            [entry["at_s"] for entry in entries if entry["event"] == "controller.stepped_down"],
            [entry["at_s"] for entry in entries if entry["event"] == "controller.elected"],
        )
        blind = _joined([*self.blind, *vacant])
        return Circumstances(self.leader_changes_s, blind, sorted(holds, key=lambda s: s.begins_s))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Without overlaps."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: one.begins_s):
        if found and span.begins_s <= found[-1].ends_s:
            found[-1] = Span(found[-1].begins_s, max(found[-1].ends_s, span.ends_s))
        else:
            found.append(span)
    return found
