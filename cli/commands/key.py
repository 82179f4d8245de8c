"""``swarmctl key``."""

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

_ANY = click.IntRange(min=0)


@click.group(cls=Group)
def key() -> None:
    """API keys: who may use the models of this swarm. client.auth says where one is needed."""


@key.command("create")
@click.option("--name", default="", help="What you call it; no two keys have one name.")
@click.option("--rpm", type=_ANY, default=0, show_default=True, help="Requests a minute; 0: any number.")
@click.option("--tpd", type=_ANY, default=0, show_default=True, help="Tokens a day; 0: any number.")
@click.option("--concurrency", type=_ANY, default=0, show_default=True, help="Requests at a time; 0: any.")
@click.option("--ttl", type=Duration(), default="0", show_default=True, help="0: until revoked.")
@click.option("--models", default="", help="Names or patterns, comma between them; all where left out.")
@click.option("--manage", is_flag=True, help="May pull, create, copy, delete and pin models too.")
def create(name: str, rpm: int, tpd: int, concurrency: int, ttl: int, models: str, manage: bool) -> None:
    """Make an API key. It is shown once; limits count at each host by itself."""
    from cli.client.connection import connected

    wanted = tuple(one.strip() for one in models.split(",") if one.strip())

    async def ask() -> Document:
        async with connected(invocation()) as client:
            return await client.create_key(
                name,
                models=wanted,
                manage=manage,
                requests_per_minute=rpm,
                tokens_per_day=tpd,
                concurrency=concurrency,
                ttl_s=ttl,
            )

    document = wait_for(ask())
    emit("key", document, str(document["key"]))
    if not invocation().as_json:
        say("shown once; programs send it as their API key (Authorization: Bearer, or x-api-key)")
        say("hosts ask for keys where client.auth says so: swarmctl config set client.auth lan|always")


@key.command("list")
def list_keys() -> None:
    """List API keys, without their secrets."""
    from cli.client.connection import connected

    async def ask() -> list[Document]:
        async with connected(invocation()) as client:
            return await client.keys()

    columns = ("id", "name", "state", "models", "manage", "rpm", "tpd", "concurrency", "expires_at")
    emit_list("keys", wait_for(ask()), columns, none="no API keys")


@key.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """End the API key ID, or the one called so, at once."""
    from cli.client.connection import connected

    async def ask() -> str:
        async with connected(invocation()) as client:
            return await client.revoke_key(key_id)

    ended = wait_for(ask())
    emit("key", {"id": ended, "revoked": True}, f"revoked {ended}")
