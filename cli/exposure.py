"""Listeners that take everybody's requests, or nobody's: said at start, in ``status`` and by ``doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from swarmplane.addresses import parse_address
from swarmplane.settings.schema import ClientSettings, NodeSettings, Settings

GUARD: Final = "swarmctl config set client.auth lan, and a key for each client: swarmctl key create"
"""What to do about them."""
NEW_KEY: Final = "swarmctl key create"


def keyless(auth: str, routes: Mapping[str, Any]) -> tuple[str, ...]:
    """What to warn of: clients need a key, and there is none.

    Args:
        auth: As ``client.auth``.
        routes: What the admin listener tells of the table in use; empty: unknown.
    """
    if auth not in {"lan", "always"} or routes.get("keys") != 0:
        return ()
    who = "everybody" if auth == "always" else "every client of another machine"
    asked = f"{who} is refused: client.auth = {auth} asks for API keys, and there is none"
    return (f"{asked}; make one for each client: {NEW_KEY}",)


def open_to_all(settings: Settings) -> tuple[str, ...]:
    """What to warn of: each client listener beyond loopback, where nobody needs a key."""
    if settings.client.auth != "none":
        return ()
    return tuple(
        f"everybody who reaches {listener} can use every model of this host's swarm: clients need no key. "
        f"To ask for keys: {GUARD}; --listen 127.0.0.1:PORT takes requests from this machine alone"
        for listener in settings.client_listeners()
        if not parse_address(listener).loopback
    )


def told_auth(config: Mapping[str, Any]) -> str:
    """``client.auth`` of a host that runs; empty: it does not tell."""
    try:
        return str(config["settings"]["client"]["auth"])
    except (KeyError, TypeError):
        return ""


def told_open(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The same of a host that runs, by what its admin listener tells of its settings."""
    try:
        found = config["settings"]
        client, node = ClientSettings.model_validate(found["client"]), NodeSettings(lan=found["node"]["lan"])
    except (KeyError, TypeError, ValueError):
        return ()
    return open_to_all(Settings(client=client, node=node))
