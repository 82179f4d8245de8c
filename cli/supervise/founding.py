"""The founder's own node: enrolled through the same door as every other one."""

from __future__ import annotations

import re
import shutil
import socket
from dataclasses import replace
from typing import Final

from cli.client.connection import connected_to
from swarmplane.addresses import Address, parse_address
from swarmplane.client.targets import chosen_target
from swarmplane.contexts import DEFAULT
from swarmplane.credentials.files import load_credential, save_credential
from swarmplane.credentials.join_token import JoinToken, parse_join_token
from swarmplane.datadir import DataDir, write_atomically
from swarmplane.enrollment import enroll
from swarmplane.errors import AlreadyExistsError, SwarmError
from swarmplane.identity import NodeRecord, is_joined, read_record, write_identity
from swarmplane.settings.schema import Settings

_OWN_TOKEN_S: Final = 300
_LONGEST_NAME: Final = 63


def wished_name(settings: Settings) -> str:
    """The node's name asked for, else one made from the host's."""
    return settings.node.name or label_of(socket.gethostname()) or "node"


def label_of(text: str) -> str:
    """``text`` as a DNS label: its first part, lower case, other characters as dashes; may be empty."""
    first = text.partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", first).strip("-")[:_LONGEST_NAME].strip("-")


async def enrol_own_node(data_dir: DataDir, settings: Settings, *, control: str, join: str) -> None:
    """Make this founder a node of its swarm, if it is none yet; else point it to where the instance listens.

    Args:
        data_dir: Of the host.
        settings: For the node's name and labels.
        control: Where the control plane listens, ``host:port``.
        join: Where its enrolment listener does.
    """
    control, join = here(control), here(join)
    if is_joined(data_dir):
        _follow(data_dir, control, join)
        return
    target = replace(chosen_target(data_dir, DEFAULT), addresses=(control,))
    async with connected_to(target) as client:
        document = await client.create_token("node", 1, _OWN_TOKEN_S)
    await enrol_node(data_dir, settings, join, parse_join_token(str(document["join_token"])))
    _follow(data_dir, control, join)


async def enrol_node(data_dir: DataDir, settings: Settings, address: str, token: JoinToken) -> NodeRecord:
    """Enrol this host at ``address`` and write who it is. Where it fails, nothing is written."""
    enrolled = await enroll(
        address, token, name=wished_name(settings), labels=settings.node.labels, profile="node"
    )
    if enrolled.role != "node":  # an authority that does not know of profiles
        raise SwarmError(
            f"this token makes no node ({enrolled.role}), and one use of it is spent; "
            "a token for nodes: swarmctl token create"
        )
    record = NodeRecord(
        node_id=enrolled.subject_id,
        node_name=enrolled.name,
        swarm_id=enrolled.swarm_id,
        swarm_name=enrolled.swarm_name,
        control_addresses=enrolled.control_addresses,
        join_addresses=enrolled.join_addresses,
        role=enrolled.role,
    )
    write_identity(data_dir, record, enrolled.credential)
    return record


async def enrol_instance(data_dir: DataDir, address: str, token: JoinToken) -> str:
    """Make this host an instance of the swarm at ``address``; the swarm's name. The secret is written last.

    What is missing to a node is made when the host runs, by its own instance. Where it fails, nothing stays.

    Raises:
        AlreadyExistsError: There is a swarm's store or secret here; the token was not spent.
        SwarmError: See :func:`swarmplane.enrollment.enroll`.
    """
    for path in (data_dir.store, data_dir.swarm_secret):
        if path.exists():
            raise AlreadyExistsError(f"this host keeps a swarm already ({path}); give another --data-dir")
    enrolled = await enroll(address, token, name="", profile="instance")
    if enrolled.role != "instance" or not enrolled.swarm_secret:
        raise SwarmError(
            f"this token makes no instance ({enrolled.role}); one for this: "
            "swarmctl token create --role instance"
        )
    try:
        # With a certificate of this swarm here, an empty store is never taken for a new swarm's.
        save_credential(data_dir.control_plane, enrolled.credential)
        write_atomically(data_dir.swarm_secret, enrolled.swarm_secret)
    except BaseException:
        shutil.rmtree(data_dir.control_plane, ignore_errors=True)
        raise
    return enrolled.swarm_name


def here(text: str) -> str:
    """``host:port`` as this machine reaches it: all interfaces means loopback."""
    address = parse_address(text)
    if not address.unspecified:
        return text
    return str(Address("::1" if ":" in address.host else "127.0.0.1", address.port))


def _follow(data_dir: DataDir, control: str, join: str) -> None:
    record = read_record(data_dir)
    if record is None:
        return
    # Its own instance first; ports that were free ones differ from run to run.
    others = [one for one in record.control_addresses if not parse_address(one).loopback]
    followed = replace(
        record, control_addresses=tuple(dict.fromkeys([control, *others])), join_addresses=(join,)
    )
    if followed != record:
        write_identity(data_dir, followed, load_credential(data_dir.node))
