"""``swarmctl route``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit_event, emit_list
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document


@click.group(cls=Group)
def route() -> None:
    """Where requests go."""


@route.command("list")
def list_routes() -> None:
    """List compiled routes, ordered by model."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.routes()

    rows = [{**item, "ready": _ready(item)} for item in wait_for(ask())]
    emit_list("routes", rows, ("name", "ready", "strategy", "revision"), none="no routes yet")


@route.command("watch")
@click.option("--revision", type=int, default=0, help="First revision wanted; 0: all as it stands.")
def watch(revision: int) -> None:
    """Print routes as they change, until interrupted."""
    from cli.client.connection import connected

    async def follow() -> None:
        async with connected(invocation()) as client:
            async for change in client.watch_routes(revision):
                _show(change)

    wait_for(follow())


def _show(change: Document) -> None:
    if change["kind"] == "bookmark" and not invocation().as_json:
        return
    shown = change.get("route")
    text = _ready(shown) if isinstance(shown, dict) else "removed"
    emit_event("route-change", change, f"{change['revision']}  {change.get('name', '')}  {text}")


def _ready(item: Document) -> str:
    endpoints = item["endpoints"]
    all_of_them = endpoints if isinstance(endpoints, list) else []
    ready = [one for one in all_of_them if one["ready"] and not one["draining"]]
    return f"{len(ready)}/{len(all_of_them)}"
