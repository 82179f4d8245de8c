"""``swarmctl peers``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from cli.invocation import Everywhere, invocation
from cli.output import emit_list, say
from cli.running import wait_for

if TYPE_CHECKING:
    from cli.client.documents import Document
    from swarmplane.datadir import DataDir
    from swarmplane.discovery.peers import Peer

_COLUMNS = ("name", "swarm_name", "open", "reachable", "join", "url", "found_by", "reason")


@click.command(cls=Everywhere)
@click.option("--subnet-scan", is_flag=True, help="Ask every address of the own networks too.")
@click.option("--save", is_flag=True, help="Ask those that are found from now on, wherever they are.")
@click.option("--within", "within_s", type=click.FloatRange(0.1, 120), default=None,
              help="Seconds to listen; default 5, with a scan 2.")  # fmt: skip
def peers(subnet_scan: bool, save: bool, within_s: float | None) -> None:
    """Show who else is on the local network, and why some can't be reached.

    Hosts that run with --lan, and members of swarms, tell of themselves by mDNS. Networks are scanned if
    nobody does, one address after another on the swarm's own port.
    """
    from swarmplane.discovery.peers import Wanted, look_around
    from swarmplane.identity import read_record
    from swarmplane.settings.load import load

    data_dir = invocation().data_dir
    settings = load(data_dir.root, ())
    record = read_record(data_dir)
    listen_s = within_s if within_s is not None else (2.0 if subnet_scan else 5.0)
    wanted = Wanted(
        mdns=settings.discovery.mdns,
        scan="always" if subnet_scan else "if-nobody",
        subnets=settings.discovery.subnets,
        known=settings.discovery.peers,
        within_s=listen_s,
    )
    if wanted.mdns:
        say(f"listening for {listen_s:g} s …")
    found = wait_for(look_around(wanted, own_node=record.node_id if record else "", say=say))
    own = record.swarm_id if record else ""
    emit_list("peers", [_document(peer, own) for peer in found], _COLUMNS, none="nobody was found")
    if save:
        _save(data_dir, settings.discovery.peers, found)


def _document(peer: Peer, own_swarm: str) -> Document:
    told = peer.announcement
    return {
        "id": told.node,
        "name": told.node_name,
        "swarm": told.swarm,
        "swarm_name": told.swarm_name,
        "own_swarm": bool(own_swarm) and told.swarm == own_swarm,
        "fingerprint": told.fingerprint,
        "open": peer.open,
        "gateway": told.gateway,
        "version": told.version,
        "addresses": list(peer.addresses),
        "join": list(told.join),
        "url": peer.url,
        "found_by": peer.found_by,
        "reachable": peer.reachable,
        "reason": peer.reason,
    }


def _save(data_dir: DataDir, before: tuple[str, ...], found: tuple[Peer, ...]) -> None:
    from swarmplane.addresses import Address
    from swarmplane.settings.directories import config_file
    from swarmplane.settings.edit import edit

    new = [
        str(Address(peer.addresses[0], peer.announcement.client_port))
        for peer in found
        if peer.addresses and peer.announcement.client_port
    ]
    kept = list(dict.fromkeys([*before, *new]))
    edit(config_file(data_dir.root), [f"discovery.peers={json.dumps(kept)}"])
    say(f"kept in discovery.peers: {', '.join(kept) or 'nobody'}")
