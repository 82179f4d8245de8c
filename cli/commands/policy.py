"""``swarmctl policy``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, emit_list
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document

_COLUMNS: Final = ("name", "strategy", "falls_back_to", "revision")


@click.group(cls=Group)
def policy() -> None:
    """What people want of balancing and of fallbacks, for the swarm and for single models."""


@policy.command("list")
def list_policies() -> None:
    """List the swarm's policy and those set for models, ordered by name."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.policies()

    emit_list("policies", _shown(wait_for(ask())), _COLUMNS)


@policy.command("get")
@click.argument("model", default="")
def get(model: str) -> None:
    """Show the policy of MODEL; without it, the swarm's."""
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.policy(model)

    document = wait_for(ask())
    emit("policy", document, f"{document['name']}: {document['strategy'] or 'as the swarm'}")


@policy.command("apply")
@click.option("-f", "--file", "path", required=True, metavar="FILE", help="TOML or JSON; - for stdin.")
def apply(path: str) -> None:
    """Set the policies in FILE, all at once: each replaces the one that stands; those it does not name stay.

    As TOML: [swarm] with strategy, substitute_loaded, auto_pull and [[swarm.fallbacks]]; [models."NAME"] with
    strategy and fallbacks.
    """
    from cli.client.connection import connected
    from cli.policyfiles import read_policies

    wanted = read_policies(sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8"))

    async def act() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.apply_policies(wanted)

    emit_list("policies", _shown(wait_for(act())), _COLUMNS)


def _shown(policies: list[Document]) -> list[Document]:
    """With who may answer for others, for people; JSON has it in ``fallbacks``."""
    if invocation().as_json:
        return policies
    return [{**one, "falls_back_to": _chain(one["fallbacks"])} for one in policies]


def _chain(fallbacks: object) -> str:
    if not isinstance(fallbacks, list):
        return ""
    if all(isinstance(one, str) for one in fallbacks):
        return ", ".join(fallbacks)
    return f"{len(fallbacks)} rule{'s' if len(fallbacks) > 1 else ''}"
