"""``swarmctl policy``."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, emit_list
from cli.running import wait_for
from swarmplane.errors import InvalidRequestError

if TYPE_CHECKING:
    from cli.client.documents import Document

SWARM: Final = "swarm"
_COLUMNS: Final = ("name", "strategy", "revision")


@click.group(cls=Group)
def policy() -> None:
    """What people want of balancing, for the swarm and for single models."""


@policy.command("list")
def list_policies() -> None:
    """List the swarm's policy and those set for models, ordered by name."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.policies()

    emit_list("policies", wait_for(ask()), _COLUMNS)


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
    """Set the policies in FILE, all at once; what it does not name stays.

    As TOML: strategy under [swarm], and under [models."NAME"] for single models; "" unsets one.
    """
    from cli.client.connection import connected

    wanted = read_policies(sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8"))

    async def act() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.apply_policies(wanted)

    emit_list("policies", wait_for(act()), _COLUMNS)


def read_policies(text: str) -> list[tuple[str, str]]:
    """Models (empty: the swarm) and their strategies in a document.

    Raises:
        InvalidRequestError: It is none, or has more in it than is known here.
    """
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"the file is neither TOML nor JSON: {error}") from None
    models = found.pop("models", {})
    entries = {"": found.pop(SWARM)} if SWARM in found else {}
    if found or not isinstance(models, dict):
        raise InvalidRequestError('the file may hold [swarm] and [models."NAME"] only')
    wanted = []
    for name, entry in {**entries, **models}.items():
        if not isinstance(entry, dict) or entry.keys() != {"strategy"}:
            raise InvalidRequestError(f"{name or SWARM}: give it a strategy, and nothing else")
        if not isinstance(entry["strategy"], str):
            raise InvalidRequestError(f"{name or SWARM}: the strategy must be text")
        wanted.append((name, entry["strategy"]))
    if not wanted:
        raise InvalidRequestError("the file names no policy")
    return wanted
