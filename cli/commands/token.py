"""``swarmctl token``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.durations import Duration
from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, emit_list, say
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document


@click.group(cls=Group)
def token() -> None:
    """Join tokens: each makes nodes, instances or people of the swarm."""


@token.command("create")
@click.option(
    "--role", type=click.Choice(["node", "instance", "operator", "admin", "viewer"]), default="node",
    show_default=True, help="What it makes of who spends it.",
)  # fmt: skip
@click.option("--uses", type=click.IntRange(min=0), default=1, show_default=True, help="0: unlimited.")
@click.option("--ttl", type=Duration(), default="24h", show_default=True, help="0: until revoked.")
def create(role: str, uses: int, ttl: int) -> None:
    """Make a join token. It is shown once."""
    from cli.client.connection import connected_to
    from cli.client.joining import join_command
    from swarmplane.client.targets import chosen_target
    from swarmplane.runtime import read_runtime

    called = invocation()
    target = chosen_target(called.data_dir, called.context)

    async def ask() -> Document:
        async with connected_to(target) as client:
            return await client.create_token(role, uses, ttl)

    made = wait_for(ask())
    addresses = made["join_addresses"] if isinstance(made["join_addresses"], list) else []
    runtime = read_runtime(called.data_dir)
    own = runtime.urls.get("join", "") if runtime is not None and runtime.swarm == target.swarm else ""
    command = join_command(str(made["join_token"]), [*addresses, *([own] if own else [])], role)
    document = {key: made[key] for key in ("id", "role", "uses", "expires_at")}
    document |= {"token": made["join_token"], "join_command": command}
    emit("token", document, str(made["join_token"]))
    if not called.as_json and command:
        until = f", until {made['expires_at']}" if made["expires_at"] else ", until revoked"
        say(f"{'any number of uses' if uses == 0 else f'{uses} use(s)'}{until}; run on the other machine:")
        say(f"  {command}")
        if not addresses:
            say("(this swarm listens on loopback only; for other machines: swarmctl up --lan)")


@token.command("list")
def list_tokens() -> None:
    """List join tokens, without their secrets."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.tokens()

    emit_list(
        "tokens", wait_for(ask()), ("id", "role", "state", "used", "uses", "expires_at"), none="no tokens"
    )


@token.command("revoke")
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """End the join token ID at once. Who was enrolled with it stays."""
    from cli.client.connection import connected

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.revoke_token(token_id)

    document = wait_for(ask())
    emit("token", document, f"revoked {document['id']}")
