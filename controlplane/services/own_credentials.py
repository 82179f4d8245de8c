"""Certificates that an instance gives itself and its host: its own, and the admin's of the founder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from controlplane.services.authority import SwarmAuthority
from swarmplane.credentials import csr, keys
from swarmplane.credentials.files import CA, CERTIFICATE, KEY, Credential, load_credential, save_credential
from swarmplane.credentials.names import Profile, Subject, control_subject, user_subject
from swarmplane.credentials.renewal import renewal_due_s
from swarmplane.datadir import DataDir, write_atomically
from swarmplane.errors import FailedPreconditionError, NotFoundError, SwarmError
from swarmplane.identity import read_record
from swarmplane.ids import random_id

FOUNDER_CONTEXT: Final = "default"
CONTEXT_FILE: Final = "context.json"


def own_credential(authority: SwarmAuthority, data_dir: DataDir, now_s: float) -> Credential:
    """This instance's credential in ``data_dir``: made, or renewed where it is due. It blocks.

    It is called as the node of its host is, so that whoever removes the host has removed the instance too; as
    before, or anyhow, where there is no node.
    """
    record = read_record(data_dir)
    name = record.node_id if record is not None and record.swarm_id == authority.swarm else ""
    name = name or _own_name(authority, data_dir.control_plane) or random_id()
    return _fresh(authority, data_dir.control_plane, control_subject(authority.swarm, name), now_s)


def _own_name(authority: SwarmAuthority, directory: Path) -> str:
    """What this instance was called so far; empty: nothing of its own."""
    try:
        subject = load_credential(directory).facts().subject
    except SwarmError:
        return ""
    return subject.name if subject.profile is Profile.CONTROL and subject.swarm == authority.swarm else ""


def make_admin_credential(authority: SwarmAuthority, data_dir: DataDir, name: str, now_s: float) -> None:
    """Write the founder's admin credential: what a crash left is replaced, anything else is not touched.

    Raises:
        FailedPreconditionError: The directory holds somebody's credential of another swarm. It blocks.
    """
    directory = data_dir.context(FOUNDER_CONTEXT)
    known = _document(directory)
    if known and not known.get("founder"):
        raise FailedPreconditionError(
            f"{directory} holds a credential for swarm {known.get('swarm_name')!r}; "
            "log out of it first (swarmctl logout) or found in another --data-dir"
        )
    subject = user_subject(name, authority.swarm)
    write_context(directory, authority, subject, ())
    save_credential(directory, _new(authority, subject, now_s))


def forget_admin_credential(authority: SwarmAuthority, data_dir: DataDir) -> None:
    """Undo :func:`make_admin_credential`: somebody else founded first. It blocks."""
    directory = data_dir.context(FOUNDER_CONTEXT)
    if _is_ours(directory, authority):
        for name in (CERTIFICATE, KEY, CA, CONTEXT_FILE):
            (directory / name).unlink(missing_ok=True)


def restore_admin_credential(authority: SwarmAuthority, data_dir: DataDir, name: str, now_s: float) -> bool:
    """Make the founder's admin credential anew where none is left; whether that was so. It blocks.

    After a `swarmctl logout` there, nobody might be left who can make a token. Whoever may write here holds
    the authority's key anyway.
    """
    directory = data_dir.context(FOUNDER_CONTEXT)
    if _document(directory) or (directory / CERTIFICATE).exists():
        return False
    make_admin_credential(authority, data_dir, name, now_s)
    return True


def renew_admin_credential(authority: SwarmAuthority, data_dir: DataDir, name: str, now_s: float) -> None:
    """Renew the founder's admin credential if it is due, so that a founder is never locked out. It blocks."""
    directory = data_dir.context(FOUNDER_CONTEXT)
    if _is_ours(directory, authority):
        _fresh(authority, directory, user_subject(name, authority.swarm), now_s)


def tell_addresses(authority: SwarmAuthority, data_dir: DataDir, addresses: Sequence[str]) -> None:
    """Note in the founder's context where the control listener is now. It blocks."""
    directory = data_dir.context(FOUNDER_CONTEXT)
    if _is_ours(directory, authority):
        subject = load_credential(directory).facts().subject
        write_context(directory, authority, subject, addresses)


def write_context(
    directory: Path, authority: SwarmAuthority, subject: Subject, addresses: Sequence[str]
) -> None:
    """Write ``context.json`` of the founder. It blocks."""
    document = {
        "swarm": authority.swarm,
        "swarm_name": authority.name,
        "addresses": list(addresses),
        "subject": subject.id,
        "founder": True,
    }
    write_atomically(directory / CONTEXT_FILE, json.dumps(document, indent=2).encode() + b"\n")


def _is_ours(directory: Path, authority: SwarmAuthority) -> bool:
    known = _document(directory)
    return bool(known.get("founder")) and known.get("swarm") == authority.swarm


def _document(directory: Path) -> dict[str, object]:
    try:
        document = json.loads((directory / CONTEXT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _fresh(authority: SwarmAuthority, directory: Path, subject: Subject, now_s: float) -> Credential:
    known = _usable(authority, directory, subject)
    if known is None:
        renewed = _new(authority, subject, now_s)
    else:
        facts = known.facts()
        # Whichever is shorter, so that a shorter life set since then holds at once.
        life_s = min(facts.lifetime_s, authority.lifetime_s(subject.profile))
        if now_s < renewal_due_s(facts.not_after_s, facts.lifetime_s) and life_s == facts.lifetime_s:
            return known
        key = keys.private_key_from_pem(known.key_pem)
        renewed = known.with_certificate(authority.certificate(key.public_key(), subject, now_s))
    save_credential(directory, renewed)
    return renewed


def _usable(authority: SwarmAuthority, directory: Path, subject: Subject) -> Credential | None:
    """What is there, if its three files belong together, to this swarm and to ``subject``."""
    try:
        known = load_credential(directory)
        facts = known.check()
    except NotFoundError:
        return None
    except SwarmError:
        return None
    return known if known.ca_pem == authority.ca_pem and facts.subject == subject else None


def _new(authority: SwarmAuthority, subject: Subject, now_s: float) -> Credential:
    key = keys.new_private_key()
    public = csr.public_key_of(csr.make_csr(key))
    certificate = authority.certificate(public, subject, now_s)
    return Credential(authority.ca_pem, certificate, keys.private_key_to_pem(key))
