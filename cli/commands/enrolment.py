"""``swarmctl enrolment``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, say
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document


@click.group(cls=Group)
def enrolment() -> None:
    """How hosts get into the swarm: with a token, or every host of the network."""


@enrolment.command("open")
def open_() -> None:
    """Let every host that reaches the swarm join it without a token; for networks that are trusted."""
    from cli.supervise.banner import OPEN_WARNING

    emit("enrolment", _set(is_open=True), "open: hosts join without a token")
    say(f"warning: {OPEN_WARNING}")


@enrolment.command("close")
def close() -> None:
    """Take hosts with a token only. Those that joined before stay."""
    emit("enrolment", _set(is_open=False), "closed: hosts need a token (swarmctl token create)")


@enrolment.command("show")
def show() -> None:
    """Show how hosts get into the swarm."""
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.enrolment()

    state = wait_for(ask())
    emit(
        "enrolment",
        state,
        "open: hosts join without a token" if state["open"] else "closed: hosts need a token",
    )


def _set(*, is_open: bool) -> Document:
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.set_enrolment(is_open=is_open)

    return wait_for(ask())
