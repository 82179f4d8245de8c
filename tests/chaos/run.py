"""The chaos soak: ``python -m tests.chaos.run``; see ``--help``, and :mod:`tests.chaos.invariants`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from controlplane.store.etcd.access import EtcdAccess
from controlplane.store.etcd.store import EtcdStore
from tests.chaos import facade, invariants, watching
from tests.chaos.actors import HOLD_S, Cast
from tests.chaos.clients import Load, Person, standing
from tests.chaos.director import Director, Sentinel, tell
from tests.chaos.invariants import Claim, Write
from tests.chaos.linearizable import check, out_of_order
from tests.chaos.networks import HUB_VARIABLE, Network, inside
from tests.chaos.schedule import ALL, INSTANCES, MODELS, SIDECARS, Fault, Kind, lines, plan
from tests.chaos.seeds import FILE, Kept, keep, parse

CALM_S = 5.0
"""At the end, when everything is back."""
AROUND_S = 60.0
"""What a run takes beside its faults: founding, coming back, judging."""
LIMIT_S = 300.0
"""A run that takes so much longer than its faults has failed."""
BACK_S = 60.0
"""Within which everything must be back by itself."""
HOSTS = ("idle-one", "idle-two", "idle-three")


class Soak:
    """One seed's run."""

    def __init__(self, cast: Cast, seed: int, faults: Sequence[Fault], rate: float) -> None:
        self.cast, self._seed, self._faults = cast, seed, faults
        random = Random(seed)
        self.director = Director(cast)
        self.sentinel = Sentinel(cast, self.director)
        self._rate, self._random = rate, random
        self.violations: list[str] = []

    async def run(self) -> None:
        """Raise nothing: what is wrong is in :attr:`violations`."""
        began_s = time.monotonic()
        await self.cast.start()
        for host in HOSTS:
            await self.cast.enrol(host)
        store_file = self.cast.witness("tests.chaos.facade", str(self._seed))
        load = Load(self.cast, self._rate, self._random)
        people = [Person(self.cast, INSTANCES[0], list(HOSTS), Random(self._seed))]
        tell(f"everything serves after {time.monotonic() - began_s:.0f} s")
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self.sentinel.run())
            group.create_task(load.run())
            for person in people:
                group.create_task(person.run())
            await self.director.run(self._faults)
            await asyncio.to_thread(self._back)
            await asyncio.sleep(CALM_S)
            load.stop()
            for person in people:
                person.stop()
            await asyncio.sleep(1)
            looking.cancel()
        await self._judge(load, people, store_file)

    def _back(self) -> None:
        """Everything must come back by itself."""
        began_s = time.monotonic()
        for name in SIDECARS:
            try:
                self.cast.wait_for_all(name, BACK_S)
            except TimeoutError as error:
                self._found("back by itself", [f"{error}: {sorted(self.cast.served(name))}"])
        tell(f"everything is back after {time.monotonic() - began_s:.1f} s")

    def _found(self, rule: str, violations: Sequence[str]) -> None:
        self.violations += [f"{rule}: {one}" for one in violations]

    async def _judge(self, load: Load, people: Sequence[Person], store_file: Path) -> None:
        cast, downs = self.cast, self.director.downs
        for one in [*cast.actors.values(), *cast.backends, *cast.witnesses]:
            if one.ended is not None:
                self._found("nobody ends by itself", [f"{one.name}: {one.ended}: {one.tail()}"])
        self._found("processes come back", self.director.failures)
        for name in (*INSTANCES, *SIDECARS):
            raised = [
                str(entry["exception"])[-300:]
                for entry in _log(cast.actors[name].log)
                if "exception" in entry
            ]
            self._found(
                "no exception is logged", [f"{name}, {len(raised)} times: {raised[0]}"] if raised else []
            )
        history = await self._history()
        logs = {name: _log(cast.actors[name].log) for name in INSTANCES}
        claims = [
            Claim(name, entry["revision"], entry["epoch"])
            for name, entries in logs.items()
            for entry in entries
            if entry["event"] in {"routes.written", "nodes.gone"}
        ]
        self._found("one controller", invariants.one_controller(history, claims))
        # The watcher lives on: what it was told of since then is in no history that was read.
        read_to = history[-1].revision if history else 0
        watched = [one for one in watching.read(cast.watch) if one.revision <= read_to]
        self._found("the watch", invariants.same_history(watched, history))
        self._found("no ghosts", invariants.no_ghosts(history))
        by_id = {cast.node_ids[name]: downs.get(name, []) for name in SIDECARS}
        self._found("no mass removal", invariants.no_mass_removal(watched, by_id, hold_s=HOLD_S))
        given = self.sentinel.circumstances(logs)
        self._found("no stale routes", invariants.no_stale_routes(self.sentinel.samples, downs, given))
        failed, excused = invariants.no_failed_requests(load.requests, downs, MODELS, self.sentinel.samples)
        self._found("no failed requests", failed)
        for name in INSTANCES:
            end = await standing(cast, name)
            for person in people:
                lost = invariants.nothing_lost(person.mutations, end)
                self._found("nothing lost", [f"{name}: {one}" for one in lost])
        operations = facade.read(store_file)
        for verdict in check(operations):
            if not verdict.ok:
                self._found("linearizable", [f"{verdict.key}: stuck at {', '.join(map(str, verdict.stuck))}"])
            elif not verdict.decided:
                tell(f"key {verdict.key}: undecided, the search was given up")
        self._found("revisions follow time", [f"{a} / {b}" for a, b in out_of_order(operations)])
        self._tell(load, people, operations, history, claims, excused, given)

    def _tell(
        self,
        load: Load,
        people: Sequence[Person],
        operations: Sequence[Any],
        history: Sequence[Write],
        claims: Sequence[Claim],
        excused: int,
        given: invariants.Circumstances,
    ) -> None:
        elections = sum(w.key == invariants.EPOCH for w in history)
        removals = sum(w.key.startswith("nodes/") and bool((w.fields or {}).get("gone")) for w in history)
        mutations = [m for person in people for m in person.mutations]
        unknown = sum(not one.certain for one in operations)
        blind_s = sum(span.ends_s - span.begins_s for span in given.blind)
        refused = [dict(person.refusals) for person in people]
        tell(
            f"faults: {dict(self.director.counts)}\n"
            f"requests: {len(load.requests)} ({dict(load.sorts)}), {excused} excused\n"
            f"store: {len(operations)} operations, {unknown} unknown; {history[-1].revision} revisions\n"
            f"mutations: {sum(m.acknowledged for m in mutations)} acknowledged, refused {refused}\n"
            f"elections: {elections}; etcd's leader changed {len(given.leader_changes_s)} times; "
            f"nobody could decide for {blind_s:.1f} s; {len(given.holds)} holds\n"
            f"controller: {len(claims)} guarded writes with an epoch, {removals} removals; "
            f"{len(self.sentinel.samples)} tables looked at"
        )

    async def _history(self) -> list[Write]:
        """All that ever happened in the store, read at the end."""
        access = EtcdAccess.of(self.cast.endpoints, prefix=watching.PREFIX)
        found: list[Write] = []
        async with EtcdStore.open(access) as store:
            revision = (await store.range("", limit=1)).revision
            async for told in watching.follow(store, until=revision):
                found += told
        # The watcher, that lives on, must have been told of all of it by now.
        await asyncio.sleep(2)
        return found


def _log(path: Path) -> list[Mapping[str, Any]]:
    """Entries of a JSON log, with ``at_s`` on the runner's clock."""
    offset_s = time.monotonic() - time.time()
    found = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(line)
            entry["at_s"] = datetime.fromisoformat(entry["timestamp"]).timestamp() + offset_s
            found.append(entry)
    return found


def soak(seed: int, seconds: float, kinds: Sequence[Kind], rate: float, root: Path | None) -> list[str]:
    """Violations of one run."""
    network = Network(ALL)
    possible = [kind for kind in kinds if kind is not Kind.CUT or network.can_be_cut]
    if len(possible) < len(kinds):
        tell("no network namespaces here (root on Linux, iproute2): nothing is cut off")
    faults = plan(seed, seconds, possible)
    tell(f"seed {seed}, {seconds:g} s, {[kind.value for kind in possible]}: {len(faults)} faults")
    for line in lines(faults):
        tell(f"  {line}")
    if root is not None:
        root.mkdir(parents=True, exist_ok=True)
    cast = Cast(root or Path(tempfile.mkdtemp(prefix="chaos-")), network, keep=root is not None)
    one = Soak(cast, seed, faults, rate)
    try:
        asyncio.run(asyncio.wait_for(one.run(), seconds + LIMIT_S))
    finally:
        cast.close()
    return one.violations


def _one(run: Kept, rate: float, root: Path | None) -> int:
    """Exit status of one run, in this process."""
    kinds = [Kind(kind) for kind in run.kinds.split(",")]
    violations = soak(run.seed, run.seconds, kinds, rate, root)
    for violation in violations:
        tell(f"VIOLATED {violation}")
    if violations:
        keep(run, violations[0])
        tell(f"seed {run.seed}: {len(violations)} violations; it is kept in {FILE.name}")
        return 1
    tell(f"seed {run.seed}: everything held")
    return 0


def main() -> int:
    """Exit status: 0, or 1 if something was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Chaos; what must hold.")
    parser.add_argument("--seed", type=int, help="the schedule; without: a new one, which is printed")
    parser.add_argument("--seconds", type=float, default=240.0, help="how long things are done to processes")
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second, at most")
    parser.add_argument("--kinds", default="kill,freeze,cut", help="what is done")
    parser.add_argument("--kept", action="store_true", help="then the seeds that once failed, newest first")
    parser.add_argument("--within", type=float, default=570.0, help="seconds: no kept one is begun later")
    parser.add_argument("--root", type=Path, help="where logs and data stay; without: nothing stays")
    given = parser.parse_args()
    began_s = time.monotonic()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    runs = [Kept(seed, given.seconds, given.kinds)]
    if HUB_VARIABLE in os.environ:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return _one(runs[0], given.rate, given.root)
    if given.kept:
        runs += reversed(parse(FILE.read_text()))
    worst = 0
    for run in runs:
        if run is not runs[0] and time.monotonic() - began_s + run.seconds + AROUND_S > given.within:
            tell(f"no time is left for seed {run.seed}")
            continue
        flags = ["--seed", str(run.seed), "--seconds", str(run.seconds), "--kinds", run.kinds]
        flags += ["--rate", str(given.rate), *(["--root", str(given.root)] if given.root else [])]
        status = inside("tests.chaos.run", flags)
        worst = max(worst, _one(run, given.rate, given.root) if status is None else status)
    return worst


if __name__ == "__main__":
    sys.exit(main())
