"""``swarmctl alias``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, emit_list
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document


@click.group(cls=Group)
def alias() -> None:
    """Further names of models: what clients ask for by a name that is built in."""


@alias.command("set")
@click.argument("name")
@click.argument("model")
def set_alias(name: str, model: str) -> None:
    """Let MODEL answer to NAME, in which * stands for any characters: 'claude-*'.

    Names of models win over aliases, and aliases over patterns; of patterns the one with the most letters.
    """
    from cli.client.connection import connected

    async def act() -> Document:
        async with connected(invocation()) as client:
            return await client.set_alias(name, model)

    document = wait_for(act())
    emit("alias", document, f"{document['name']} is answered by {document['model']}")


@alias.command("list")
def list_aliases() -> None:
    """List aliases and the models that answer, ordered by name."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.aliases()

    emit_list("aliases", wait_for(ask()), ("name", "model", "state"), none="no aliases")


@alias.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Delete the alias NAME."""
    from cli.client.connection import connected

    async def act() -> str:
        async with connected(invocation()) as client:
            return await client.remove_alias(name)

    removed = wait_for(act())
    emit("alias", {"name": removed, "removed": True}, f"removed {removed}")
