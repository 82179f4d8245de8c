"""Who this host is in its swarm: ``D/node``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from swarmplane.credentials.files import Credential, credential_exists, save_credential
from swarmplane.datadir import DataDir, write_atomically

_FILE: Final = "identity.json"


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """``identity.json``."""

    node_id: str
    node_name: str
    swarm_id: str
    swarm_name: str
    control_addresses: tuple[str, ...]
    """``host:port``, most preferred first."""
    join_addresses: tuple[str, ...]
    role: str = "node"

    def pointed_at(self, control: str, join: str) -> NodeRecord:
        """This node, which looks for its swarm there first."""
        return replace(
            self,
            control_addresses=tuple(dict.fromkeys([control, *self.control_addresses])),
            join_addresses=tuple(dict.fromkeys([join, *self.join_addresses])),
        )


def is_joined(data_dir: DataDir) -> bool:
    """Whether this host is enrolled in a swarm."""
    return credential_exists(data_dir.node)


def read_record(data_dir: DataDir) -> NodeRecord | None:
    """Who this host is; None where it is enrolled nowhere. It blocks."""
    if not is_joined(data_dir):
        return None
    try:
        document = json.loads((data_dir.node / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _record(document) if isinstance(document, dict) else None


def write_identity(data_dir: DataDir, record: NodeRecord, credential: Credential) -> None:
    """Make this host a node: all files, or, where that fails, none. The certificate is written last."""
    created = not data_dir.node.exists()
    try:
        write_record(data_dir, record)
        save_credential(data_dir.node, credential)
    except BaseException:
        forget_identity(data_dir)
        if created:
            _remove_empty(data_dir.node)
        raise


def write_record(data_dir: DataDir, record: NodeRecord) -> None:
    """Keep what the swarm said since: names and addresses. The credential stays. It blocks."""
    write_atomically(data_dir.node / _FILE, json.dumps(asdict(record), indent=2).encode() + b"\n")


def forget_identity(data_dir: DataDir) -> None:
    """Make this host a node no longer; the certificate goes first."""
    for name in ("cert.pem", "key.pem", "ca.pem", _FILE):
        (data_dir.node / name).unlink(missing_ok=True)


def _remove_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def _record(document: Mapping[str, object]) -> NodeRecord:
    def text(name: str) -> str:
        return str(document.get(name, ""))

    def texts(name: str) -> tuple[str, ...]:
        value = document.get(name)
        return tuple(map(str, value)) if isinstance(value, list) else ()

    return NodeRecord(
        text("node_id"),
        text("node_name"),
        text("swarm_id"),
        text("swarm_name"),
        texts("control_addresses"),
        texts("join_addresses"),
        text("role") or "node",
    )
