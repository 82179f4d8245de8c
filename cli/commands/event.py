"""``swarmctl event``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit_event
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document


@click.group(cls=Group)
def event() -> None:
    """What happens in the swarm."""


@event.command("watch")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@click.option("--revision", type=int, default=0, help="First revision wanted; 0: from now on.")
def watch(kinds: tuple[str, ...], revision: int) -> None:
    """Print events as they happen, until interrupted; without KIND all of them.

    A last .* stands for a family: 'model.*' are pulls too, and what they come to.
    """
    from cli.client.connection import connected

    async def follow() -> None:
        async with connected(invocation()) as client:
            async for told in client.watch_events(kinds, revision):
                _show(told)

    wait_for(follow())


def _show(told: Document) -> None:
    if told["kind"] == "bookmark" and not invocation().as_json:
        return
    emit_event("event", told, f"{told['revision']}  {told['kind']}  {told['message'] or told['subject']}")
