"""Figures that are kept, ``docs/reference/performance.json``, and the page and the plots made from them.

``python bench/report.py [FILE ...]`` makes the page and the plots anew, after it took over what benches
printed with ``--json`` into each FILE; with ``--write`` they write their part themselves.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plot

from swarmplane.interpreter import WORDS, interpreter_here

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
KEPT = REFERENCE / "performance.json"
PAGE = REFERENCE / "performance.md"
INTRODUCTION = """# Performance

<!-- Made by bench/report.py from performance.json; `make bench-docs` measures anew. Edits here are lost. -->

What a request through one sidecar costs, as CPU time of the sidecar's process, beside others in the same
run before the same backend, which answers at once. Load, proxy and backend share the machine, so the time to
an answer says little; the CPU per request, and above all its ratio to nginx's, says much. `make bench`
measures here. How Python was built counts: compiled without `--enable-optimizations`, as pyenv and asdf do by
default, it takes 1.4 times as long for a sidecar's own work. Each table names its Python's build.
"""


def machine() -> dict[str, Any]:
    """The machine in words that mean something to others."""
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "build": WORDS[interpreter_here().build],
    }


def write(section: str, document: Mapping[str, Any]) -> None:
    """Replace ``section`` of what is kept, and make the page anew."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept[section] = {"machine": machine(), **document}
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    render()


def write_rows(section: str, document: Mapping[str, Any], key: str) -> None:
    """As :func:`write`, but rows of other ``key`` than those of ``document`` stay: each may take minutes."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    rows = {row[key]: row for row in (*kept.get(section, {}).get("items", ()), *document["items"])}
    write(section, {**document, "items": [rows[one] for one in sorted(rows)]})


def adopt(kept_elsewhere: Path) -> None:
    """Keep a document that a bench printed with ``--json``, from another machine or minute."""
    document = json.loads(kept_elsewhere.read_text())
    section = str(document.pop("schema")).removeprefix("swarmplane.bench.").partition("/")[0]
    if section == "peers":
        section = f"peers-{document['backends']}"
    if section == "control":
        write_rows("control-etcd" if document["etcd"] else section, document, "sidecars")
    else:
        write(section, document)


def render() -> None:
    """Make the page and its plots from what is kept."""
    kept = json.loads(KEPT.read_text())
    parts = [INTRODUCTION]
    for section, part in (
        ("peers-1", _peers),
        ("peers-4", _more_peers),
        ("growth", _growth),
        ("streams", _streams),
        ("control", _control),
        ("control-etcd", _control_etcd),
    ):
        if section in kept:
            parts.append(part(kept[section]))
    PAGE.write_text("\n".join(parts))


def _table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _where(document: Mapping[str, Any]) -> str:
    here = document["machine"]
    return (
        f"Measured on {here['system']}, {here['architecture']}, {here['cpus']} processors shared with other "
        f"work, Python {here['python']}{', ' + here['build'] if 'build' in here else ''}.\n"
    )


def _more_peers(document: Mapping[str, Any]) -> str:
    _, titles, ratios = _ratios(document)
    return (
        "## Beside others, with a choice\n\n"
        f"The same with {document['backends']} backends behind the routers and ours; nginx and haproxy, the "
        "measure, still have one.\n\n" + _table(["Workload", *titles], ratios) + "\n" + _where(document)
    )


def _ratios(document: Mapping[str, Any]) -> tuple[list[str], list[str], list[list[str]]]:
    """Targets, what people call them, and CPU over nginx's by workload."""
    names = list(dict.fromkeys(row["target"] for row in document["items"]))
    versions = {name.partition("-")[0]: f"{name} {version}" for name, version in document["versions"].items()}
    ratios = [
        [workload, *(f"{cells[name]:.2f}" if name in cells else "-" for name in names)]
        for workload, cells in document["ratios"].items()
    ]
    return names, [versions.get(name, name) for name in names], ratios


def _peers(document: Mapping[str, Any]) -> str:
    names, titles, ratios = _ratios(document)
    memory = {row["target"]: row["rss_mib"] for row in document["items"]}
    missing = "".join(f"\nWithout {line}.\n" for line in document["missing"])
    return (
        "## Beside others\n\n"
        "CPU per request, in times of nginx's. Each is in front of one backend. The routers go round robin "
        "and log "
        "warnings only; ours has its defaults: choosing by cost, metrics, breakers and queues.\n\n"
        + _table(["Workload", *titles], ratios)
        + missing
        + "\nResident memory under this load: "
        + ", ".join(f"{title} {memory[name]:.0f} MiB" for name, title in zip(names, titles, strict=True))
        + ".\n\n"
        + _where(document)
    )


def _growth(document: Mapping[str, Any]) -> str:
    candidates, bodies = document["candidates"], document["bodies"]
    plot.lines(
        REFERENCE / "performance-candidates.svg",
        "CPU per request by candidates",
        ("candidates", "µs"),
        {
            "whole request": [(row["candidates"], row["request_us"]) for row in candidates],
            "the pick": [(row["candidates"], row["pick_us"]) for row in candidates],
        },
    )
    plot.lines(
        REFERENCE / "performance-bodies.svg",
        "CPU per request by body",
        ("KB of body", "µs"),
        {
            name: [(row["kb"], row[f"{name}_us"]) for row in bodies]
            for name in ("sidecar", "nginx")
            if f"{name}_us" in bodies[0]
        },
    )
    return (
        "## Growth with candidates\n\n"
        "One model served by so many backends, a plain request at 8 connections. Up to 16 candidates all are "
        'priced, above that a sample is. "The pick" is the choice alone, measured by itself.\n\n'
        "![CPU per request by candidates](performance-candidates.svg)\n\n"
        + _table(
            ["Candidates", "Whole request, µs", "The pick, µs"],
            [[row["candidates"], row["request_us"], row["pick_us"]] for row in candidates],
        )
        + "\n## Growth with the body\n\n"
        "One prompt that fills the body, a plain request at 8 connections.\n\n"
        "![CPU per request by body](performance-bodies.svg)\n\n"
        + _table(
            ["KB of body", "Sidecar, µs", "nginx, µs", "Ratio"],
            [
                [row["kb"], row["sidecar_us"], row.get("nginx_us", "-"), row.get("ratio", "-")]
                for row in bodies
            ],
        )
        + "\n"
        + _where(document)
    )


def _streams(document: Mapping[str, Any]) -> str:
    rows, idle = document["items"], document["idle"]
    plot.lines(
        REFERENCE / "performance-streams.svg",
        "CPU by streams held",
        ("streams", "% of one processor"),
        {"sidecar": [(row["streams"], row["cpu_percent"]) for row in rows]},
    )
    words = (
        "## Many streams\n\n"
        "Slow streams of two events a second, held at the same time by one sidecar. Memory is the growth of "
        "its resident set and counts both connections of a stream.\n\n"
        "![CPU by streams held](performance-streams.svg)\n\n"
        + _table(
            ["Streams", "KB each", "CPU, %", "µs an event", "Events lost", "Ends lost"],
            [
                [
                    row["streams"],
                    row["kb_each"],
                    row["cpu_percent"],
                    row["cpu_us_per_event"],
                    row["lost_events"],
                    row["streams"] - row["ended"],
                ]
                for row in rows
            ],
        )
    )
    if idle:
        words += (
            f"\n{idle['clients']:,} idle keep-alive clients took {idle['kb_each']} KB each and "
            f"{idle['cpu_percent']} % of a processor; {idle['answered_after']:,} were answered afterwards.\n"
        )
    return words + "\n" + _where(document)


def _control(document: Mapping[str, Any]) -> str:
    rows = document["items"]
    sizes = [row["sidecars"] for row in rows]
    for name, title, unit, column in (
        ("cpu", "CPU of an instance by sidecars", "% of one processor", [100 * row["core"] for row in rows]),
        ("memory", "Memory of an instance by sidecars", "MiB", [row["rss_mib"] for row in rows]),
    ):
        points = list(zip(sizes, column, strict=True))
        plot.lines(
            REFERENCE / f"performance-control-{name}.svg", title, ("sidecars", unit), {"instance": points}
        )
    waits = {
        "a change, told to 99 %": [(row["sidecars"], row["told_p99_s"]) for row in rows],
        "all connect at once": [(row["sidecars"], row["connect_s"]) for row in rows],
    }
    for name, line in zip(("told", "connect"), waits.items(), strict=True):
        plot.lines(
            REFERENCE / f"performance-control-{name}.svg", line[0], ("sidecars", "s"), {line[0]: line[1]}
        )
    return (
        "## An instance and its sidecars\n\n"
        "Simulated sidecars on one instance with the embedded store: real streams, each on a connection of "
        "its own with mutual TLS, each with a certificate of its own from the ordinary enrolment. Each says "
        "its load once a second and hears of others' as often as its instance tells it. The instance has one "
        "processor, all sidecars share the other: what connecting takes is theirs as much as the instance's. "
        "`make bench-control` measures here.\n\n"
        "![CPU of an instance by sidecars](performance-control-cpu.svg)\n\n"
        "![Memory of an instance by sidecars](performance-control-memory.svg)\n\n"
        "![A change, told to 99 %](performance-control-told.svg)\n\n"
        "![All connect at once](performance-control-connect.svg)\n\n"
        + _table(
            ["Sidecars", "CPU, %", "MiB", "Told, p50 s", "Told, p99 s", "All connected, s"],
            [
                [
                    row["sidecars"],
                    f"{100 * row['core']:.1f}",
                    f"{row['rss_mib']:.0f}",
                    f"{row['told_p50_s']:.2f}",
                    f"{row['told_p99_s']:.2f}",
                    f"{row['connect_s']:.1f}",
                ]
                for row in rows
            ],
        )
        + "\n"
        + _where(document)
    )


def _control_etcd(document: Mapping[str, Any]) -> str:
    return (
        "## An instance dies\n\n"
        "Two instances on one member of etcd. All sidecars connect to the first at once; who hears nothing "
        "for twenty seconds goes to the second. Then the first is killed, and the second takes in who was "
        "cut off. Tries are connections begun for each of those. Both instances share one processor, the "
        "sidecars and etcd the other. `make bench-control BENCH_ARGS=--etcd` measures here.\n\n"
        + _table(
            ["Sidecars", "All connected, s", "Cut off", "Back, p50 s", "All back, s", "Tries"],
            [
                [
                    row["sidecars"],
                    f"{row['connect_s']:.1f}",
                    row["cut_off"],
                    f"{row['back_p50_s']:.1f}",
                    f"{row['back_max_s']:.1f}",
                    f"{row['tries']:.1f}",
                ]
                for row in document["items"]
            ],
        )
        + "\n"
        + _where(document)
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        adopt(Path(name))
    render()
