"""``swarmctl election``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit_event, emit_list
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document

_COLUMNS = ("name", "holder", "epoch", "elected_at", "candidates")


@click.group(cls=Group)
def election() -> None:
    """Who decides, of several control planes."""


@election.command("list")
def list_elections() -> None:
    """List elections: who holds them, since when, and who else could."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.elections()

    emit_list("elections", wait_for(ask()), _COLUMNS, none="nothing was ever decided")


@election.command("watch")
@click.option("--revision", type=int, default=0, help="First revision wanted; 0: all as it stands.")
def watch(revision: int) -> None:
    """Print elections as they change, until interrupted."""
    from cli.client.connection import connected

    async def follow() -> None:
        async with connected(invocation()) as client:
            async for change in client.watch_elections(revision):
                _show(change)

    wait_for(follow())


def _show(change: Document) -> None:
    if change["kind"] == "bookmark" and not invocation().as_json:
        return
    held = change.get("election")
    holder = held["holder"] or "nobody" if isinstance(held, dict) else ""
    epoch = held["epoch"] if isinstance(held, dict) else ""
    emit_event(
        "election-change", change, f"{change['revision']}  {change.get('name', '')}  {holder}  epoch {epoch}"
    )
