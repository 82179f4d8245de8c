"""``swarmctl node``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import ago, emit, emit_list, say
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document


@click.group(cls=Group)
def node() -> None:
    """Hosts of the swarm."""


@node.command("list")
def list_nodes() -> None:
    """List nodes, ordered by id."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.nodes()

    emit_list("nodes", wait_for(ask()), ("name", "id", "state", "cordoned", "models", "peer_addresses"))


@node.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show the node NAME, by name or id."""
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.node(name)

    document = wait_for(ask())
    emit("node", document, _words(document))


@node.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Delete the node NAME and refuse its certificate from now on."""
    from cli.client.connection import connected

    async def ask() -> str:
        async with connected(invocation()) as client:
            return await client.remove_node(name)

    node_id = wait_for(ask())
    emit("node", {"id": node_id, "name": name, "removed": True}, f"removed {name} ({node_id})")


@node.command("cordon")
@click.argument("name")
def cordon(name: str) -> None:
    """Send no new requests to the node NAME."""
    _set(name, cordoned=True)


@node.command("drain")
@click.argument("name")
@click.option("--no-wait", is_flag=True, help="Print the operation's id instead of waiting for its end.")
def drain(name: str, no_wait: bool) -> None:
    """Send no new requests to the node NAME, and wait until it has none left.

    Ctrl-C ends the wait, not the drain; `swarmctl node uncordon` undoes it.
    """
    from cli.client.connection import connected

    async def begin() -> Document:
        async with connected(invocation()) as client:
            return await (client.drain(name) if no_wait else client.drained(name, say))

    document = wait_for(begin())
    if no_wait:
        emit("operation", document, str(document["id"]))
        return
    words = f"{name} is drained: {document['message']}"
    emit("operation", document, words if document["state"] == "done" else str(document["message"]))
    if document["state"] != "done":
        raise click.exceptions.Exit(1)


@node.command("uncordon")
@click.argument("name")
def uncordon(name: str) -> None:
    """Send requests to the node NAME again."""
    _set(name, cordoned=False)


def _set(name: str, *, cordoned: bool) -> None:
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await (client.cordon(name) if cordoned else client.uncordon(name))

    document = wait_for(ask())
    emit("node", document, f"{document['name']} is {'' if document['cordoned'] else 'not '}cordoned")


def _words(document: Document) -> str:
    from cli.hardware import condition, hardware

    silent_s = document["silent_s"]
    heard = ago(silent_s) + " ago" if isinstance(silent_s, float) and silent_s >= 0 else "-"
    state = f"{document['state']}{', cordoned' if document['cordoned'] else ''}"
    lines = [
        ("name", f"{document['name']}{' (founder)' if document['founder'] else ''}"),
        ("id", document["id"]),
        ("state", state),
        ("heard", heard),
        ("models", _joined(document["models"])),
        ("addresses", _joined(document["peer_addresses"])),
        ("unreachable", document["unreachable_reason"]),
        ("labels", _joined(document["labels"])),
        ("software", f"{document['software_version']} {document['platform']}".strip()),
        ("hardware", hardware(document)),
        ("now", condition(document)),
        ("gateway", document["gateway_url"]),
    ]
    backends = document["backends"]
    for backend in backends if isinstance(backends, list) else []:
        health = "healthy" if backend["healthy"] else "not healthy"
        health += f": {backend['reason']}" if backend["reason"] else ""
        lines.append(("backend", f"{backend['name']} ({backend['kind']}), {health}"))
    return "\n".join(f"{name + ':':<13}{value}" for name, value in lines if value)


def _joined(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
