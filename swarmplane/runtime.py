"""What a running host says about itself: ``runtime.json`` of the host, ready files of its processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from swarmplane.datadir import DataDir, write_atomically

SCHEMA: Final = "swarmplane.runtime/v1"
ProcessName: TypeAlias = Literal["controlplane", "sidecar"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """The document of ``runtime.json``: stable, read by scripts. Absent roles are left out."""

    pid: int
    """Of ``swarmctl up``."""
    node_id: str
    node_name: str
    swarm: str
    """Id of the swarm; empty on a host that is in none."""
    pids: Mapping[str, int] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False
    """It stops, and finishes requests first."""

    def document(self) -> dict[str, object]:
        """As it stands in the file; ``draining`` only while it does."""
        document: dict[str, object] = {
            "schema": SCHEMA,
            "pid": self.pid,
            "node_id": self.node_id,
            "node_name": self.node_name,
            "swarm": self.swarm,
            "pids": dict(self.pids),
            "urls": dict(self.urls),
        }
        return document | ({"draining": True} if self.draining else {})


def read_runtime(data_dir: DataDir) -> Runtime | None:
    """What the host of ``data_dir`` last wrote; None if there is nothing that can be read."""
    document = _read(data_dir.runtime)
    if document is None or document.get("schema") != SCHEMA:
        return None
    return Runtime(
        pid=_number(document.get("pid")),
        node_id=str(document.get("node_id", "")),
        node_name=str(document.get("node_name", "")),
        swarm=str(document.get("swarm", "")),
        pids={name: _number(pid) for name, pid in _mapping(document.get("pids")).items()},
        urls={name: str(url) for name, url in _mapping(document.get("urls")).items()},
        draining=document.get("draining") is True,
    )


def write_runtime(data_dir: DataDir, runtime: Runtime) -> None:
    """Replace ``runtime.json``, readable by its owner alone. It blocks."""
    write_atomically(data_dir.runtime, _bytes(runtime.document()))


def remove_runtime(data_dir: DataDir) -> None:
    """Remove ``runtime.json`` if it is there."""
    data_dir.runtime.unlink(missing_ok=True)


def ready_file(data_dir: DataDir, process: ProcessName) -> Path:
    """Where ``process`` says that it serves, and where."""
    return data_dir.run / f"{process}.json"


def read_ready(data_dir: DataDir, process: ProcessName) -> Mapping[str, object] | None:
    """The ready file of ``process``; None while it does not serve."""
    return _read(ready_file(data_dir, process))


def write_ready(data_dir: DataDir, process: ProcessName, document: Mapping[str, object]) -> None:
    """Say that ``process`` serves. ``document`` has at least ``pid``. It blocks."""
    write_atomically(ready_file(data_dir, process), _bytes(document))


def remove_ready(data_dir: DataDir, process: ProcessName) -> None:
    """Say that ``process`` serves no longer."""
    ready_file(data_dir, process).unlink(missing_ok=True)


def _bytes(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


def _read(path: Path) -> Mapping[str, object] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
