"""``swarmctl gateway``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.invocation import invocation
from cli.lazy import Group
from cli.output import emit, say

if TYPE_CHECKING:
    from swarmplane.settings.schema import Settings


@click.group(cls=Group)
def gateway() -> None:
    """This host as the URL for clients of the swarm. Several hosts may be, and are equal."""


@gateway.command("on")
def on() -> None:
    """Tell the swarm and the network that clients are meant to ask this host."""
    _set(wanted=True)


@gateway.command("off")
def off() -> None:
    """Tell it no longer. Requests are served as before."""
    _set(wanted=False)


def _set(*, wanted: bool) -> None:
    from cli.client.local import post_json
    from swarmplane.runtime import read_runtime
    from swarmplane.settings.directories import config_file
    from swarmplane.settings.edit import edit
    from swarmplane.settings.load import load

    data_dir = invocation().data_dir
    edit(config_file(data_dir.root), [f"node.gateway={str(wanted).lower()}"])
    settings = load(data_dir.root, ())
    runtime = read_runtime(data_dir)
    admin = runtime.urls.get("admin", "") if runtime is not None else ""
    if admin:
        post_json(admin, "/reload")
    emit(
        "gateway",
        {"gateway": settings.node.gateway, "running": bool(admin)},
        f"this host is {'a' if settings.node.gateway else 'no'} gateway"
        + ("" if admin else ", once it runs: swarmctl up"),
    )
    if settings.node.gateway != wanted:
        say("warning: the environment says otherwise (SWARMPLANE_NODE__GATEWAY), and is stronger")
    if settings.node.gateway and not _open_to_others(settings, admin):
        say(
            "warning: clients of other machines can't reach it: it listens on loopback only; "
            "swarmctl up --lan, or --listen HOST:PORT"
        )


def _open_to_others(settings: Settings, admin: str) -> bool:
    """Whether clients of other machines can reach this host; what it runs with is stronger than the file."""
    from cli.client.local import settings_in_force
    from swarmplane.addresses import parse_address

    now = settings_in_force(admin) if admin else settings
    return any(not parse_address(one).loopback for one in now.client_listeners())
