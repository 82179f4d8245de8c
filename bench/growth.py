"""How the cost of a request grows with candidates and with its body.

``python bench/growth.py [--seconds S] [--json] [--write]``: 1 to 100 backends that serve one model, and
bodies from 1 KB to 1 MB beside nginx. CPU of the proxy's process per request; the pick by itself as
``bench/choosing.py`` does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import choosing
import report
from run import measure
from targets import HERE, Started, UnavailableError, nginx, sidecar, started

from swarmplane.interpreter import interpreter_here

CANDIDATES = (1, 2, 4, 8, 16, 17, 32, 64, 100)
BODIES_KB = (1, 4, 16, 64, 256, 1024)
CONNECTIONS = 8


def by_candidates(run: Started, seconds: float) -> list[dict[str, Any]]:
    """A sidecar for each number of backends, which are one process on as many ports."""
    ports = _backends(run, max(CANDIDATES))
    rows: list[dict[str, Any]] = []
    for count in CANDIDATES:
        target = sidecar(run, *ports[:count], name=f"sidecar-{count}")
        measure(target, "chat", CONNECTIONS, 1.0)  # every backend has history after that
        row = measure(target, "chat", CONNECTIONS, seconds)
        run.end(target.pids)
        pick_us = choosing.pick_us(count, "least_cost")
        rows.append(
            {"candidates": count, "request_us": round(row.cpu_us, 1), "pick_us": round(pick_us, 1)}
            | ({"errors": row.errors} if row.errors else {})
        )
    return rows


def by_body(run: Started, seconds: float) -> list[dict[str, Any]]:
    """One sidecar, and nginx where there is one, with larger and larger prompts."""
    (port,) = _backends(run, 1)
    targets = [sidecar(run, port)]
    try:
        targets.append(nginx(run, port))
    except UnavailableError as error:
        print(f"without nginx: {error}", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    for size in BODIES_KB:
        script = _script(run.scratch, size)
        row: dict[str, Any] = {"kb": size}
        for target in targets:
            found = measure(target, str(script), CONNECTIONS, seconds)
            row[f"{target.name}_us"] = round(found.cpu_us, 1)
            if found.errors:
                row[f"{target.name}_errors"] = found.errors
        if "nginx_us" in row:
            row["ratio"] = round(row["sidecar_us"] / row["nginx_us"], 2)
        rows.append(row)
    return rows


def _backends(run: Started, count: int) -> list[int]:
    line = run.pipe("mock", sys.executable, str(HERE / "backend.py"), "0", str(count))
    return [int(port) for port in line.split()]


def _script(scratch: Path, size_kb: int) -> Path:
    """A wrk script whose request has a prompt of ``size_kb``."""
    body = json.dumps({"model": "m1", "messages": [{"role": "user", "content": ""}]}, separators=(",", ":"))
    start, end = body[:-4], body[-4:]
    words = "lorem ipsum "
    script = scratch / f"body-{size_kb}.lua"
    prompt = (words * (size_kb * 1024 // len(words) + 1))[: size_kb * 1024 - len(body)]
    script.write_text(
        f'wrk.method="POST"; wrk.headers["Content-Type"]="application/json"\n'
        f"wrk.body='{start}{prompt}{end}'\nwrk.path=\"/v1/chat/completions\"\n"
    )
    return script


def show(candidates: Sequence[dict[str, Any]], bodies: Sequence[dict[str, Any]]) -> None:
    """The same for people."""
    for rows in (candidates, bodies):
        print(*(f"{name:>12}" for name in rows[0]))
        for row in rows:
            print(*(f"{value!s:>12}" for value in row.values()))
        print()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    options = parser.parse_args()
    with started() as run:
        bodies = by_body(run, options.seconds)
    with started() as run:
        candidates = by_candidates(run, options.seconds)
    document = {"candidates": candidates, "bodies": bodies}
    if options.json:
        print(json.dumps({"schema": "swarmplane.bench.growth/v1", "machine": report.machine(), **document}))
    else:
        print(interpreter_here())
        show(candidates, bodies)
    if options.write:
        report.write("growth", document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
