"""What a host tells people once it is ready, and what it tells them to do next."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cli.client.connection import connected_to
from cli.client.joining import join_command, own_join_addresses
from cli.client.local import get_json
from cli.exposure import keyless, open_to_all
from cli.output import say
from swarmplane.addresses import parse_address
from swarmplane.client.targets import chosen_target, node_target
from swarmplane.contexts import DEFAULT
from swarmplane.datadir import DataDir, write_atomically
from swarmplane.errors import SwarmError
from swarmplane.runtime import Runtime
from swarmplane.settings.schema import Settings

OPEN_WARNING: Final = (
    "this swarm is open: every host of the network may join it and see its requests; "
    "`swarmctl enrolment close` ends that, and those that joined stay"
)
JOIN_USES: Final = 10
JOIN_S: Final = 86_400
_REACHED_S: Final = 5.0
_MODELS_S: Final = 2.0
_POLL_S: Final = 0.2


async def announce(
    data_dir: DataDir,
    settings: Settings,
    runtime: Runtime,
    *,
    founder: bool,
    founded: bool = False,
    flags: tuple[str, ...] = (),
) -> None:
    """Say that the host is ready, how others join, and what to do next.

    Args:
        data_dir: Of the host.
        settings: As they are in force.
        runtime: What runs.
        founder: Whether the control plane is here.
        founded: Whether the swarm is one that was founded just now; only then ``--open`` opens it.
        flags: To lead other commands to this host.
    """
    if runtime.swarm:
        trouble = await _trouble(data_dir, runtime)
        if trouble:
            say(trouble)
    for warning in open_to_all(settings):
        say(f"warning: {warning}")
    say(f"ready: {runtime.urls.get('client', '')} (node {runtime.node_name})")
    if founder and await _is_open(data_dir, wished=settings.swarm.open, founded=founded):
        say(f"warning: {OPEN_WARNING}")
    if founder and runtime.urls.get("join"):
        say(await _how_to_join(data_dir, settings, runtime, here=shlex.join(["", *flags])[2:]))
    # After `ready:`: a host that has no table yet knows no keys, and serves all the same.
    for warning in await _keyless(settings, runtime):
        say(f"warning: {warning}")
    hint = await _what_next(settings, runtime)
    if hint:
        say(hint.replace("swarmctl up", shlex.join(["swarmctl", "up", *flags])))


async def _keyless(settings: Settings, runtime: Runtime) -> tuple[str, ...]:
    """That clients need keys and there is none, once the first table came."""
    admin, loop = runtime.urls.get("admin", ""), asyncio.get_running_loop()
    if settings.client.auth == "none" or not admin:
        return ()
    ends_s = loop.time() + _MODELS_S
    while True:
        try:
            routes = await asyncio.to_thread(get_json, admin, "/routes")
        except SwarmError:
            return ()
        if routes.get("keys") is not None or loop.time() > ends_s:
            return keyless(settings.client.auth, routes)
        await asyncio.sleep(_POLL_S)


async def _is_open(data_dir: DataDir, *, wished: bool, founded: bool) -> bool:
    """Whether nodes need no token to join the swarm of this founder; a new one is opened, where wished."""
    try:
        async with connected_to(chosen_target(data_dir, DEFAULT)) as client:
            if wished and founded:
                await client.set_enrolment(is_open=True)
            is_open = bool((await client.enrolment())["open"])
    except SwarmError as error:
        if wished:
            say(f"warning: the swarm could not be opened: {error.message}")
        return False
    if wished and not is_open:
        say(
            "this swarm is there already, and closed; --open opens new ones. Open it: swarmctl enrolment open"
        )
    return is_open


async def _trouble(data_dir: DataDir, runtime: Runtime) -> str:
    """Why others can't reach this node, or it can't reach its control plane; empty while all is well."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + _REACHED_S
    try:
        target = node_target(data_dir)
        async with connected_to(target) as client:
            while True:
                node = await client.node(runtime.node_id)
                if node["session"] or loop.time() > ends_s:
                    break
                await asyncio.sleep(_POLL_S)
    except SwarmError as error:
        return f"warning: {error.message}; this host serves what it knows, and tries again"
    if not node["session"]:
        return "warning: the control plane has not seen this node yet; it serves what it knows"
    told = node["peer_addresses"]
    reason = str(node["unreachable_reason"]) or why_out_of_reach(
        told if isinstance(told, list) else [], target.addresses
    )
    return f"unreachable: {reason}" if reason else ""


def why_out_of_reach(told: Sequence[str], control: Sequence[str]) -> str:
    """Why nobody elsewhere can reach a node, judged by its own address; empty where they may.

    Args:
        told: Peer addresses that other nodes are told.
        control: Addresses of the control plane, as this node knows them.
    """
    if all(parse_address(address).loopback for address in control):
        return ""  # a swarm of one machine
    if not told:
        return "no address of this machine can be told to others; say one with --advertise HOST"
    if all(parse_address(address).loopback for address in told):
        return (
            f"others are told {told[0]}, which is each machine's own; "
            "say another with --advertise HOST or --peer-listen HOST:PORT"
        )
    return ""


async def _how_to_join(data_dir: DataDir, settings: Settings, runtime: Runtime, *, here: str) -> str:
    """The next machine's line, or what to do here first; commands for this host end in ``here``."""
    if parse_address(settings.join_listener()).loopback:
        return f"to add machines: swarmctl up --lan{here}"
    port = parse_address(runtime.urls["join"]).port
    listener = parse_address(settings.join_listener())
    addresses = own_join_addresses(settings, str(replace(listener, port=port)))
    if not addresses:
        return (
            "to add machines, say which address of this one they reach: "
            f"swarmctl up --lan --advertise HOST{here}"
        )
    if not sys.stderr.isatty():
        # The line carries a secret: it is for a person's eyes, not for a log.
        return f"to add machines: swarmctl token create{here}"
    try:
        return f"to add a machine, run there: {join_command(await _standing_token(data_dir), addresses)}"
    except SwarmError as error:
        return f"to add machines: swarmctl token create{here} ({error.message})"


async def _standing_token(data_dir: DataDir) -> str:
    """The join token for the next machines, made once and used again while it is good."""
    path = data_dir.control_plane / "join-token.json"
    kept = _kept(path)
    async with connected_to(chosen_target(data_dir, DEFAULT)) as client:
        if kept.get("id") in {one["id"] for one in await client.tokens() if one["state"] == "active"}:
            return kept["join_token"]
        made = await client.create_token("node", JOIN_USES, JOIN_S)
    kept = {"id": str(made["id"]), "join_token": str(made["join_token"])}
    with contextlib.suppress(OSError):  # the next run makes another
        write_atomically(path, json.dumps(kept).encode())
    return kept["join_token"]


def _kept(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict) or not {"id", "join_token"} <= document.keys():
        return {}
    return {key: str(value) for key, value in document.items()}


async def _what_next(settings: Settings, runtime: Runtime) -> str:
    """What to do on a host whose clients have no model to ask; empty where they have one."""
    if settings.engine.models or settings.backends or await _has_models(runtime.urls.get("client", "")):
        return ""
    return (
        "no model yet: serve one here with `swarmctl up --model FILE.gguf` or "
        "`swarmctl up --backend http://HOST:PORT`, or let a machine join that has some"
    )


async def _has_models(client_url: str) -> bool:
    # A member has its models with its first table, moments after it is ready.
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + _MODELS_S
    while True:
        with contextlib.suppress(SwarmError):
            if (await asyncio.to_thread(get_json, client_url, "/v1/models")).get("data"):
                return True
        if loop.time() > ends_s:
            return False
        await asyncio.sleep(_POLL_S)
