"""Ours beside the routers that others wrote, in the same minutes, before the same backend.

``python bench/peers.py [--seconds S] [--json] [--check] [--write]``. ``sglang-router`` and ``vllm-router``
come from PyPI into a virtual environment of their own (``.venv-peers``), made at the first run. Each goes
round robin and logs warnings only; ours has its defaults. ``--backends N`` puts N behind those that choose;
nginx and haproxy, the measure, have one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import report
from load import has_wrk
from run import NAMES, WORKLOADS, Row, measure
from targets import (
    HERE,
    ROOT,
    Started,
    Target,
    UnavailableError,
    answering,
    free_port,
    haproxy,
    nginx,
    sidecar,
    started,
)

from swarmplane.interpreter import interpreter_here

PEERS_VENV = ROOT / ".venv-peers"
PINNED = {"sglang-router": "0.3.2", "vllm-router": "0.1.17"}
BESIDE = ("aiohttp", "fastapi", "orjson", "requests", "setproctitle", "uvicorn")
"""What both import at their start; their own requirements say the same."""
INSTALL_S = 300.0


def environment() -> Path:
    """The interpreter of the environment with the routers; made once, wheels only.

    Raises:
        UnavailableError: pip could not install them; the message is pip's last line.
    """
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python, ready = PEERS_VENV / scripts / "python", PEERS_VENV / "installed"
    wanted = "\n".join(f"{name}=={version}" for name, version in PINNED.items())
    if ready.exists() and ready.read_text() == wanted:
        return python
    venv.create(PEERS_VENV, with_pip=True, clear=True)
    pip = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]
    try:
        subprocess.run(
            [*pip, *wanted.splitlines(), *BESIDE],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"pip took longer than {INSTALL_S:g} s") from None
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines() or ["pip failed"]
        raise UnavailableError(f"{', '.join(PINNED)} can't be installed here: {lines[-1]}") from None
    ready.write_text(wanted)
    return python


def sglang(run: Started, backends: Sequence[int], python: Path) -> Target:
    """The router of SGLang, for one worker of the OpenAI kind it calls http."""
    port = free_port()
    process = run.run(
        "sglang",
        *(str(python), "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port)),
        *("--worker-urls", *_urls(backends), "--log-level", "warn", "--policy", "round_robin"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
    )
    return answering(run, Target("sglang", port, (process.pid,)), process, ask=True)


def vllm(run: Started, backends: Sequence[int], python: Path) -> Target:
    """The router of vLLM."""
    port = free_port()
    process = run.run(
        "vllm",
        *(str(python), "-m", "vllm_router.launch_router", "--host", "127.0.0.1", "--port", str(port)),
        *(
            "--worker-urls",
            *_urls(backends),
            "--log-level",
            "warning",
            "--policy",
            "round_robin",
        ),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
    )
    return answering(run, Target("vllm", port, (process.pid,)), process, ask=True)


def _urls(backends: Sequence[int]) -> list[str]:
    return [f"http://127.0.0.1:{port}" for port in backends]


def gather(run: Started, count: int) -> tuple[list[Target], list[str]]:
    """What can be started here, and why the others can't; ``count`` backends for those that choose."""
    line, missing = run.pipe("mock", sys.executable, str(HERE / "backend.py"), "0", str(count)), list[str]()
    backends = [int(port) for port in line.split()]
    targets = []
    for make in (nginx, haproxy, sidecar):
        try:
            targets.append(make(run, *(backends if make is sidecar else backends[:1])))
        except UnavailableError as error:
            missing.append(f"{make.__name__}: {error}")
    try:
        python = environment()
    except UnavailableError as error:
        return targets, [*missing, str(error)]
    for peer in (sglang, vllm):
        try:
            targets.append(peer(run, backends, python))
        except UnavailableError as error:
            missing.append(f"{peer.__name__}: {error}")
    return targets, missing


def compare(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """CPU per request over nginx's in the same run, by workload and target."""
    cells = {(row.workload, row.connections, row.target): row for row in rows}
    found: dict[str, dict[str, float]] = {}
    for (workload, connections, target), row in cells.items():
        reference = cells.get((workload, connections, "nginx"))
        if reference is not None and reference.cpu_us:
            name = f"{NAMES[workload]}, c={connections}"
            found.setdefault(name, {})[target] = round(row.cpu_us / reference.cpu_us, 2)
    return found


def judge(rows: Sequence[Row]) -> dict[str, bool | None]:
    """Whether ours costs less than each; null where one was not measured."""
    cost = {(row.target, row.workload, row.connections): row.cpu_us for row in rows}
    goals: dict[str, bool | None] = {}
    for peer in ("sglang", "vllm"):
        pairs = [
            (cost[peer, workload, connections], cost["sidecar", workload, connections])
            for workload, connections in WORKLOADS
            if (peer, workload, connections) in cost and ("sidecar", workload, connections) in cost
        ]
        goals[f"less CPU than {peer}"] = all(ours < theirs for theirs, ours in pairs) if pairs else None
    return goals


def show(rows: Sequence[Row], goals: dict[str, bool | None]) -> None:
    """The same for people."""
    ratios = compare(rows)
    for workload, connections in WORKLOADS:
        name = f"{NAMES[workload]}, c={connections}"
        print(f"\n{name}\n  {'':8} {'CPU us':>8} {'x nginx':>8} {'p50 us':>8} {'p99 us':>8} {'RSS MiB':>8}")
        for row in rows:
            if (row.workload, row.connections) == (workload, connections):
                ratio = ratios.get(name, {}).get(row.target, "-")
                print(
                    f"  {row.target:8} {row.cpu_us:8.1f} {ratio:>8} {row.p50_us:8.0f} {row.p99_us:8.0f} "
                    f"{row.rss_mib:8.0f} {row.errors}"
                )
    for goal, met in goals.items():
        print(f"goal, {goal}: {'not judged' if met is None else 'met' if met else 'missed'}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/")
    parser.add_argument("--backends", type=int, default=1, help="that serve the model")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each target and workload")
    options = parser.parse_args()
    if not has_wrk():
        print(
            "without wrk: using a slower load generator of our own; apt-get install -y wrk", file=sys.stderr
        )
    with started() as run:
        targets, missing = gather(run, max(1, options.backends))
        for line in missing:
            print(f"without {line}", file=sys.stderr)
        rows = [
            measure(target, workload, connections, min(max(options.seconds, 1.0), 5.0))
            for workload, connections in WORKLOADS
            for target in targets
        ]
    goals = judge(rows)
    document = {
        "backends": options.backends,
        "versions": PINNED,
        "items": [asdict(row) for row in rows],
        "ratios": compare(rows),
        "missing": missing,
        "goals": goals,
    }
    if options.json:
        print(json.dumps({"schema": "swarmplane.bench.peers/v1", "machine": report.machine(), **document}))
    else:
        print(interpreter_here())
        show(rows, goals)
    if options.write:
        report.write(f"peers-{options.backends}", document)
    return int(options.check and False in goals.values())


if __name__ == "__main__":
    sys.exit(main())
