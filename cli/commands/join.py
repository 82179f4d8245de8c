"""``swarmctl join``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.admission import admission
from cli.hostflags import host_flags, kept_of, overrides_of
from cli.invocation import Everywhere, invocation
from cli.output import emit, say
from cli.tokenflags import token_flags, token_given
from swarmplane.errors import AlreadyExistsError, FailedPreconditionError, UnavailableError

if TYPE_CHECKING:
    from cli.client.documents import Document
    from swarmplane.credentials.join_token import JoinToken
    from swarmplane.datadir import DataDir
    from swarmplane.identity import NodeRecord


@click.command(cls=Everywhere)
@click.argument("address", required=False, default="")
@token_flags
@click.option("--enroll-only", is_flag=True, help="Enrol, but don't run.")
@click.option("-y", "--yes", is_flag=True, help="Trust an open swarm as it is found, without being asked.")
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when it is ready.")
@click.option("--lifeline-stdin", is_flag=True, hidden=True)
@host_flags
def join(
    address: str,
    token_file: str | None,
    token: str | None,
    enroll_only: bool,
    yes: bool,
    detach: bool,
    lifeline_stdin: bool,
    **given: Any,  # noqa: ANN401 - host_flags
) -> None:
    """Enrol this host in the swarm at ADDRESS, then run it.

    ADDRESS is the join address of a control plane (HOST or HOST:PORT) or the client URL of any member.
    Without it the swarm is looked for on the local network: that of the token, else an open one, which takes
    every host and shows its fingerprint first (in scripts: --swarm NAME --yes). The flags that describe the
    host are kept in config.toml, so that `swarmctl up` alone runs it again.

    With --etcd this host also runs a control plane, beside those that keep the swarm there: the token must be
    of role instance.

    A node that is to look for its swarm elsewhere, as after its founder was restored or moved, needs no
    token: what answers at ADDRESS proves that it is that swarm. One that runs goes on, and looks there soon.
    """
    from cli.supervise.detach import run_detached
    from cli.supervise.lock import held
    from cli.supervise.run import keep, run_host
    from swarmplane.identity import read_record
    from swarmplane.settings.load import load

    data_dir, flags = invocation().data_dir, invocation().flags()
    overrides, kept = overrides_of(given), kept_of(given)
    member = None if token_given(token_file, token) else read_record(data_dir)
    if member is not None and _runs(data_dir) and not kept:
        address = address or _found_again(data_dir, overrides)
        record = _pointed(data_dir, member, address)
        emit("join", _document(record), f"node {record.node_name} looks for its swarm at {address} too")
        return
    with held(data_dir):
        wanted = None
        if member is None:
            address, wanted = admission(load(data_dir.root, overrides), address, token_file, token, yes=yes)
        address = address or _found_again(data_dir, overrides)
        document, words, more = _become(data_dir, overrides, address, wanted)
        keep(data_dir, [*kept, *more])
        if not (detach or enroll_only):
            run_host(data_dir, overrides, flags=flags, lifeline=lifeline_stdin)
    if enroll_only:
        emit("join", document, f"{words}; run it with: {shlex.join(['swarmctl', 'up', *flags])}")
    elif detach:
        run_detached(data_dir, overrides, flags=flags)


def _become(
    data_dir: DataDir, overrides: Sequence[str], address: str, token: JoinToken | None
) -> tuple[Document, str, tuple[str, ...]]:
    """Make this host a node or an instance: what it is, that for people, and settings to keep."""
    from swarmplane.settings.load import load

    if token is not None and load(data_dir.root, overrides).etcd.endpoints:
        name = _instance(data_dir, address, token)
        kept = (f"swarm.name={json.dumps(name)}",)
        return {"role": "instance", "swarm_name": name}, f"an instance of swarm {name}", kept
    record = _enrolled(data_dir, overrides, address, token)
    return _document(record), f"node {record.node_name} ({record.node_id})", ()


def _enrolled(
    data_dir: DataDir, overrides: Sequence[str], address: str, token: JoinToken | None
) -> NodeRecord:
    """Who this host is in the swarm of ``token``, enrolled now unless it was before.

    Without a token: in the swarm it is in already.
    """
    from cli.rejoining import is_removed
    from cli.running import wait_for
    from cli.supervise.founding import enrol_node, wished_name
    from swarmplane.credentials.files import load_credential
    from swarmplane.credentials.keys import fingerprint
    from swarmplane.identity import forget_identity, read_record
    from swarmplane.settings.load import load

    settings = load(data_dir.root, overrides)
    before = read_record(data_dir)
    if before is not None:
        name, swarm = before.node_name, before.swarm_name
        if token is not None and fingerprint(load_credential(data_dir.node).ca_pem) != token.fingerprint:
            raise AlreadyExistsError(
                f"this host is in another swarm, {swarm} ({before.swarm_id}); `swarmctl leave` first"
            )
        try:
            before = _pointed(data_dir, before, address)
        except UnavailableError as error:
            if token is None:
                raise
            say(f"warning: {error.message}")
        if not wait_for(is_removed(data_dir, before)):
            say(f"this host is in swarm {swarm} already, as {name}; it goes on there")
            return before
        if token is not None:
            say(f"node {name} was removed from swarm {swarm}; it joins anew")
            forget_identity(data_dir)
    if data_dir.control_plane.is_dir():
        raise AlreadyExistsError(
            "this host founded a swarm of its own; `swarmctl leave` first, or give another --data-dir"
        )
    if token is None:
        raise FailedPreconditionError(
            "this node was removed from its swarm; to join anew it needs a token: --token-file FILE"
        )
    record = wait_for(enrol_node(data_dir, settings, address, token))
    wish = wished_name(settings)
    renamed = "" if record.node_name == wish else f" (another node is called {wish})"
    say(f"joined: swarm {record.swarm_name} as node {record.node_name}{renamed}")
    return record


def _found_again(data_dir: DataDir, overrides: Sequence[str]) -> str:
    """Where on the local network the swarm of this node enrols now."""
    from cli.finding import find_swarm
    from swarmplane.credentials.files import load_credential
    from swarmplane.credentials.keys import fingerprint
    from swarmplane.settings.load import load

    ca_pem = load_credential(data_dir.node).ca_pem
    return find_swarm(load(data_dir.root, overrides), fingerprint(ca_pem))


def _runs(data_dir: DataDir) -> bool:
    from cli.supervise.lock import holder

    return holder(data_dir) is not None


def _pointed(data_dir: DataDir, record: NodeRecord, address: str) -> NodeRecord:
    """``record`` with ``address`` kept, which proved to be of the same swarm."""
    from cli.rejoining import with_address
    from cli.running import wait_for

    if data_dir.control_plane.is_dir():
        raise AlreadyExistsError(
            "this host keeps a swarm itself and looks for no other; `swarmctl leave` first, or give another "
            "--data-dir"
        )
    return wait_for(with_address(data_dir, record, address))


def _instance(data_dir: DataDir, address: str, token: JoinToken) -> str:
    """Make this host an instance of the swarm of ``token``; the swarm's name."""
    from cli.running import wait_for
    from cli.supervise.founding import enrol_instance
    from swarmplane.credentials.files import credential_exists, load_credential
    from swarmplane.credentials.keys import fingerprint

    for directory in (data_dir.node, data_dir.control_plane):
        if (
            credential_exists(directory)
            and fingerprint(load_credential(directory).ca_pem) != token.fingerprint
        ):
            raise AlreadyExistsError("this host is in another swarm; `swarmctl leave` first")
    if credential_exists(data_dir.control_plane):
        raise AlreadyExistsError("this host is an instance of this swarm already; run it: swarmctl up")
    name = wait_for(enrol_instance(data_dir, address, token))
    say(f"joined: swarm {name} as an instance")
    return name


def _document(record: NodeRecord) -> Document:
    return {
        "id": record.node_id,
        "name": record.node_name,
        "swarm": record.swarm_id,
        "swarm_name": record.swarm_name,
        "role": record.role,
        "control_addresses": list(record.control_addresses),
    }
