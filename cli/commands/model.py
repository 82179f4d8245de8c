"""``swarmctl model``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, emit_list, say, table
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document


@click.group(cls=Group)
def model() -> None:
    """Language models of the swarm."""


@model.command("list")
def list_models() -> None:
    """List models that any node has, ordered by name."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.models()

    items = wait_for(ask())
    rows = [{**item, "nodes": _nodes(item)} for item in items]
    emit_list("models", rows, ("name", "state", "nodes", "context_length"), none="no models yet")


@model.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show the model NAME and its replicas."""
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.model(name)

    document = wait_for(ask())
    replicas = document["replicas"]
    rows = replicas if isinstance(replicas, list) else []
    text = f"{document['name']}: {document['state']}"
    if rows:
        text += "\n" + table(rows, ("node_name", "backend", "state", "slots"))
    emit("model", document, text)


@model.command("pull")
@click.argument("name")
@click.option("--node", default="", help="Node that is to have it; default: where it fits best.")
@click.option("--no-wait", is_flag=True, help="Print the operation's id instead of waiting for its end.")
def pull(name: str, node: str, no_wait: bool) -> None:
    """Have a node with an Ollama server pull the model NAME, and wait until it has it.

    Ctrl-C ends the wait, not the pull. Who asks for a model that is being pulled joins that pull.
    """
    from cli.client.connection import connected

    async def begin() -> Document:
        async with connected(invocation()) as client:
            return await (client.pull(name, node) if no_wait else client.pulled(name, node, say))

    document = wait_for(begin())
    if no_wait:
        emit("operation", document, str(document["id"]))
        return
    emit("operation", document, str(document["message"]))
    if document["state"] != "done":
        raise click.exceptions.Exit(1)


def _nodes(item: Document) -> list[str]:
    replicas = item["replicas"]
    names = (
        (str(one["node_name"] or one["node_id"]) for one in replicas) if isinstance(replicas, list) else ()
    )
    return list(dict.fromkeys(names))
