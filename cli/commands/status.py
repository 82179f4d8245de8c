"""``swarmctl status``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import click

from cli.invocation import Everywhere, Invocation, invocation
from cli.output import ago, print_document, table
from cli.running import wait_for
from swarmplane.errors import SwarmError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.client.documents import Document
    from swarmplane.runtime import Runtime

NOT_RUNNING: Final = 1


@click.command(cls=Everywhere)
def status() -> None:
    """Show this host and its swarm; 1 if this host does not run."""
    from cli.supervise.lock import forget_stale, holder
    from swarmplane.identity import read_record
    from swarmplane.runtime import read_runtime

    called = invocation()
    data_dir = called.data_dir
    running = holder(data_dir) is not None
    if not running:
        forget_stale(data_dir)
    runtime = read_runtime(data_dir) if running else None
    record = read_record(data_dir)
    document: Document = {
        "running": running,
        "ready": runtime is not None and not runtime.draining,
        "draining": runtime is not None and runtime.draining,
        "data_dir": str(data_dir.root),
        "runtime": runtime.document() if runtime is not None else None,
        "swarm": {"id": record.swarm_id, "name": record.swarm_name} if record is not None else None,
        "node": {"id": record.node_id, "name": record.node_name} if record is not None else None,
        "control": _control(runtime),
        "store": _store(runtime),
        "backends": _backends(runtime),
        "exposed": _exposed(runtime),
    }
    document |= wait_for(_swarm(called)) if running and record is not None else _nothing("")
    if called.as_json:
        print_document("status", document)
    else:
        click.echo(_words(document, shlex.join(["swarmctl", "up", *called.flags()])))
    if not running:
        click.get_current_context().exit(NOT_RUNNING)


async def _swarm(called: Invocation) -> Document:
    from cli.client.connection import connected

    try:
        async with connected(called) as client:
            return {
                "nodes": await client.nodes(),
                "models": await client.models(),
                "open": (await client.enrolment())["open"],
                "problem": "",
            }
    except SwarmError as error:
        return _nothing(error.message)


def _nothing(problem: str) -> Document:
    return {"nodes": [], "models": [], "open": None, "problem": problem}


def _control(runtime: Runtime | None) -> Document | None:
    from cli.client.local import get_json

    if runtime is None or not runtime.urls.get("admin"):
        return None
    try:
        document = get_json(runtime.urls["admin"], "/control")
    except SwarmError:
        return None
    return {name: value for name, value in document.items() if name != "schema"}


def _exposed(runtime: Runtime | None) -> list[str]:
    """What to say of client listeners that take everybody's requests, or nobody's."""
    from cli.client.local import get_json
    from cli.exposure import keyless, told_auth, told_open

    if runtime is None or not runtime.urls.get("admin"):
        return []
    try:
        config = get_json(runtime.urls["admin"], "/config")
        routes = get_json(runtime.urls["admin"], "/routes") if told_auth(config) != "none" else {}
    except SwarmError:
        return []
    return [*told_open(config), *keyless(told_auth(config), routes)]


def _backends(runtime: Runtime | None) -> list[Mapping[str, Any]]:
    """Inference servers of this host; none where it does not run."""
    from cli.backends import known

    admin = runtime.urls.get("admin", "") if runtime is not None else ""
    if not admin:
        return []
    try:
        return known(invocation().data_dir, admin)
    except SwarmError:
        return []


def _store(runtime: Runtime | None) -> Document | None:
    """How the store is, where this host runs a control plane."""
    from cli.client.local import get_json

    if runtime is None or not runtime.urls.get("console"):
        return None
    try:
        document = get_json(runtime.urls["console"], "/store")
    except SwarmError:
        return None
    return {name: value for name, value in document.items() if name != "schema"}


def _embedded_words(store: dict[str, Any]) -> list[str]:
    if "path" not in store:
        return []
    age_s = store["backup_age_s"]
    backed_up = "not backed up yet" if age_s is None else f"backed up {ago(age_s)} ago"
    words = f"store    {store['path']}, {store['bytes'] / 2**20:.1f} MiB, {backed_up}"
    return [words, *(f"warning  {warning}" for warning in store["warnings"])]


def _store_words(store: object) -> list[str]:
    if not isinstance(store, dict):
        return []
    if store.get("kind") != "etcd":
        return _embedded_words(store)
    members = store["members"]
    answering = [one for one in members if one["answers"]]
    leader = next((f"{one['endpoint']} leads" for one in members if one["leader"]), "nobody leads")
    words = f"store    etcd, {len(answering)} of {len(members)} members answer, {leader}"
    if answering:
        slowest = max(one["latency_ms"] for one in answering)
        largest = max(one["bytes"] for one in answering) / 2**20
        versions = ", ".join(sorted({one["version"] for one in answering if one["version"]}))
        words += f"; {versions}, {slowest:.1f} ms, {largest:.1f} MiB"
    if not store["quorum"]:
        words += f"; what is shown is {store['age_s']:.0f} s old, and nothing can be changed"
    return [words, *(f"warning  {warning}" for warning in store["warnings"])]


def _gateway_words(nodes: object) -> list[str]:
    """Where clients are meant to ask; empty where no host is named."""
    found = [one for one in nodes if one["gateway_url"]] if isinstance(nodes, list) else []
    return [f"gateway  {one['gateway_url']} ({one['name']})" for one in found]


def _warnings(found: object) -> list[str]:
    return [f"warning  {warning}" for warning in found] if isinstance(found, list) else []


def _hardware_words(document: Document) -> list[str]:
    """Of this host, as the swarm was told."""
    from cli.hardware import condition, hardware

    node, nodes = document["node"], document["nodes"]
    found = (
        [one for one in nodes if isinstance(node, dict) and one["id"] == node["id"]]
        if isinstance(nodes, list)
        else []
    )
    return [
        f"{name:<8} {words}"
        for one in found
        for name, words in (("hardware", hardware(one)), ("now", condition(one)))
        if words
    ]


def _words(document: Document, up: str) -> str:
    swarm, node, runtime = document["swarm"], document["node"], document["runtime"]
    lines = []
    if isinstance(node, dict) and isinstance(swarm, dict):
        lines.append(f"node     {node['name']} ({node['id']}) in swarm {swarm['name']} ({swarm['id']})")
    else:
        lines.append("node     in no swarm")
    if isinstance(runtime, dict):
        lines += [f"{name:<8} {url}" for name, url in runtime["urls"].items()]
        pids = ", ".join(f"{name} {pid}" for name, pid in runtime["pids"].items())
        lines.append(f"pids     up {runtime['pid']}, {pids}")
    else:
        lines.append("host     starting" if document["running"] else f"host     not running; run it: {up}")
    if document["draining"]:
        lines.append("host     draining: it stops once its requests are done")
    if document["problem"]:
        lines.append(f"problem  {document['problem']}")
    lines += _gateway_words(document["nodes"]) + _hardware_words(document)
    if document["open"]:
        lines.append(
            "warning  this swarm is open: hosts join without a token; swarmctl enrolment close ends that"
        )
    lines += _warnings(document["exposed"])
    lines += _store_words(document["store"])
    for what, columns in (
        ("nodes", ("name", "state", "models", "unreachable_reason")),
        ("backends", ("name", "kind", "state", "url", "reason")),
        ("models", ("name", "state", "context_length")),
    ):
        rows = document[what]
        if isinstance(rows, list) and rows:
            shown = [one for one in columns if not one.endswith("reason") or any(row[one] for row in rows)]
            lines += ["", table(rows, shown)]
    return "\n".join(lines)
