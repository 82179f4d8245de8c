"""What a request through the data plane costs, beside nginx and haproxy in the same minutes.

``python bench/run.py [--quick] [--json] [--check]``. The figure to trust on a shared machine is the CPU time
per request of the proxy's processes, and its ratio to the references'; all of it is over in three minutes.

``sidecar`` is a host as it starts without settings. ``full`` has every feature on (slots, access log,
metrics, one request in a hundred traced), ``choice`` has two endpoints besides, and ``hop`` is two such
sidecars with mutual TLS between them, counted together. The goals are for those with every feature on.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import psutil
import report
from features import choice, collector, crossing, full, warm
from load import Load, drive, has_wrk
from targets import Started, Target, UnavailableError, haproxy, mock, nginx, sidecar, started

from swarmplane.interpreter import interpreter_here

WORKLOADS = (("chat", 1), ("chat", 32), ("stream", 1), ("stream", 32))
NAMES = {"chat": "plain", "stream": "50 events"}
COLUMNS = (
    ("CPU us/request", 15),
    ("x nginx", 8),
    ("x haproxy", 9),
    ("p50 us", 8),
    ("p99 us", 8),
    ("requests/s", 11),
    ("RSS MiB", 8),
)
OURS = ("sidecar", "full", "choice", "hop")
SETTLE_S = 4.0
"""After the first requests: what is loaded late is loaded by then, and the first spans are sent."""
GOALS = {
    ("full", "chat", 1): 1.5,
    ("full", "chat", 32): 2.0,
    ("full", "stream", 1): 1.2,
    ("full", "stream", 32): 1.2,
    ("choice", "chat", 1): 1.5,
    ("choice", "chat", 32): 2.0,
    ("choice", "stream", 1): 1.2,
    ("choice", "stream", 32): 1.2,
    ("hop", "chat", 1): 5.0,
    ("hop", "chat", 32): 6.0,
    ("hop", "stream", 1): 1.6,
    ("hop", "stream", 32): 1.6,
}
"""Most CPU time per request, in that of nginx, by target, workload and connections."""
GOAL_ADDED_US = 150.0
GOAL_RSS_MIB = 110.0


@dataclass(frozen=True)
class Row:
    """One target under one workload."""

    target: str
    workload: str
    connections: int
    requests: int
    per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float
    rss_mib: float
    errors: str


def _family(pids: Sequence[int]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids]
    return roots + [child for root in roots for child in root.children(recursive=True)]


def _cpu_s(pids: Sequence[int]) -> float:
    return sum(times.user + times.system for times in (one.cpu_times() for one in _family(pids)))


def _rss_mib(pids: Sequence[int]) -> float:
    return sum(one.memory_info().rss for one in _family(pids)) / 2**20


def measure(target: Target, workload: str, connections: int, seconds: float) -> Row:
    """Drive ``target`` for ``seconds``."""
    before_s = _cpu_s(target.pids)
    load: Load = drive(target.port, workload, connections, seconds)
    spent_s = _cpu_s(target.pids) - before_s
    return Row(
        target.name,
        workload,
        connections,
        load.requests,
        load.per_second,
        load.p50_us,
        load.p99_us,
        spent_s * 1e6 / max(load.requests, 1),
        _rss_mib(target.pids),
        load.errors,
    )


def gather(run: Started, *, quick: bool, say: Callable[[str], None]) -> list[Target]:
    """Start everything that can be started here; say what can't, and why."""
    backend, spans = mock(run), collector(run)
    makers: dict[str, Callable[[], Target]] = {
        "nginx": lambda: nginx(run, backend.port),
        "haproxy": lambda: haproxy(run, backend.port),
        "sidecar": lambda: sidecar(run, backend.port),
        "full": lambda: full(run, spans, backend.port),
    }
    if not quick:
        makers["choice"] = lambda: choice(run, spans, backend.port, mock(run, "other").port)
        makers["hop"] = lambda: crossing(run, spans, backend.port)
    targets = [backend]
    for name, make in makers.items():
        try:
            targets.append(make())
        except UnavailableError as error:
            say(f"without {name}: {error}")
    warm(targets)
    time.sleep(SETTLE_S)
    return targets


def summary(rows: Sequence[Row]) -> dict[str, object]:
    """Ratios and goals. A goal that can't be judged here is null."""
    cells = {(row.target, row.workload, row.connections): row for row in rows}
    ratios: dict[str, dict[str, float]] = {}
    for (target, workload, connections), row in cells.items():
        for other in ("nginx", "haproxy"):
            reference = cells.get((other, workload, connections))
            if target in OURS and reference is not None and reference.cpu_us:
                name = f"{workload}-c{connections}"
                ratios.setdefault(f"{target}/{other}", {})[name] = round(row.cpu_us / reference.cpu_us, 2)
    direct, alone = cells.get(("direct", "chat", 1)), cells.get(("full", "chat", 1))
    added_us = alone.p50_us - direct.p50_us if alone and direct else None
    rss_mib = max((row.rss_mib for row in rows if row.target in {"sidecar", "full"}), default=None)
    goals: dict[str, bool | None] = {}
    for (target, workload, connections), most in GOALS.items():
        if (target, workload, connections) in cells:
            found = ratios.get(f"{target}/nginx", {}).get(f"{workload}-c{connections}")
            named = f"{target}, {NAMES[workload]}, {connections} at a time: CPU at most {most:g} x nginx"
            goals[named] = None if found is None else found <= most
    goals[f"p50 added at most {GOAL_ADDED_US:g} us"] = None if added_us is None else added_us <= GOAL_ADDED_US
    goals[f"RSS at most {GOAL_RSS_MIB:g} MiB"] = None if rss_mib is None else rss_mib <= GOAL_RSS_MIB
    return {"ratios": ratios, "p50_added_us": added_us, "rss_mib": rss_mib, "goals": goals}


def show(rows: Sequence[Row], found: dict[str, object]) -> None:
    """The same for people."""
    cells = {(row.target, row.workload, row.connections): row for row in rows}
    names = list(dict.fromkeys(row.target for row in rows))
    for workload, connections in WORKLOADS:
        print(f"\n{NAMES[workload]}, {connections} connection{'s' if connections > 1 else ''}")
        print(f"  {'':8} " + " ".join(f"{title:>{width}}" for title, width in COLUMNS))
        for name in names:
            row = cells[name, workload, connections]
            ratios = [
                f"{row.cpu_us / other.cpu_us:.2f}" if other and other.cpu_us else "-"
                for other in (
                    cells.get((reference, workload, connections)) for reference in ("nginx", "haproxy")
                )
            ]
            print(
                f"  {name:8} {row.cpu_us:15.1f} {ratios[0]:>8} {ratios[1]:>9} {row.p50_us:8.0f} "
                f"{row.p99_us:8.0f} {row.per_second:11.0f} {row.rss_mib:8.0f} {row.errors}"
            )
    added_us = found["p50_added_us"]
    if isinstance(added_us, float):
        print(f"\np50 added by the sidecar at one connection: {added_us:.0f} us")
    goals = found["goals"]
    if isinstance(goals, dict):
        for goal, met in goals.items():
            print(f"goal, {goal}: {'not judged' if met is None else 'met' if met else 'missed'}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="a second each, without choice and hop")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each target and workload")
    options = parser.parse_args()
    seconds = 1.0 if options.quick else min(max(options.seconds, 1.0), 5.0)

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    if not has_wrk():
        say("without wrk: using a slower load generator of our own; apt-get install -y wrk")
    with started() as run:
        targets = gather(run, quick=options.quick, say=say)
        rows = []
        for workload, connections in WORKLOADS:
            say(f"{NAMES[workload]}, {connections} at a time …")
            # Side by side in time, so that what else the machine does hits all of them.
            rows += [measure(target, workload, connections, seconds) for target in targets]
    found = summary(rows)
    if options.json:
        machine = {**report.machine(), "platform": platform.platform()}
        document = {"schema": "swarmplane.bench/v1", "machine": machine, "seconds": seconds}
        print(json.dumps({**document, "items": [asdict(row) for row in rows], **found}))
    else:
        print(interpreter_here())
        show(rows, found)
    goals = found["goals"]
    return int(options.check and isinstance(goals, dict) and False in goals.values())


if __name__ == "__main__":
    sys.exit(main())
