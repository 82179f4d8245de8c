"""Where a host keeps things: one place that knows the layout of a data directory."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths below one data directory. Nothing is created by asking for a path."""

    root: Path

    @property
    def config(self) -> Path:
        """``config.toml``."""
        return self.root / "config.toml"

    @property
    def runtime(self) -> Path:
        """``runtime.json``, present while a host runs."""
        return self.root / "runtime.json"

    @property
    def lock(self) -> Path:
        """Held by the one ``swarmctl up`` of this directory."""
        return self.root / "run" / "lock"

    @property
    def node(self) -> Path:
        """This host's identity: ``identity.json``, ``ca.pem``, ``cert.pem``, ``key.pem``."""
        return self.root / "node"

    @property
    def control_plane(self) -> Path:
        """``store.db``, ``swarm-secret``, ``cert.pem``, ``key.pem``: only on hosts with an instance."""
        return self.root / "controlplane"

    @property
    def store(self) -> Path:
        """The embedded store of an instance."""
        return self.control_plane / "store.db"

    @property
    def swarm_secret(self) -> Path:
        """What an instance opens its swarm's authority with."""
        return self.control_plane / "swarm-secret"

    @property
    def table(self) -> Path:
        """The last known good route table."""
        return self.root / "table" / "routes.bin"

    @property
    def history(self) -> Path:
        """What was measured of endpoints."""
        return self.root / "history" / "latency.jsonl"

    @property
    def engines(self) -> Path:
        """Logs and scratch space of managed engines, a directory each."""
        return self.root / "engines"

    @property
    def logs(self) -> Path:
        """Log files of our processes."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Ready files of child processes, and sockets."""
        return self.root / "run"

    def context(self, name: str) -> Path:
        """``ca.pem``, ``cert.pem``, ``key.pem``, ``context.json`` of a person's credential."""
        return self.root / "contexts" / name


def make_private(directory: Path) -> None:
    """Create ``directory`` and its missing parents for this user alone; those that exist stay as they are."""
    # Not parents=True: that gives the parents, so the data directory itself, the mode of the umask.
    for missing in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def open_private_log(path: Path) -> int:
    """A descriptor that appends to ``path``; a file that is new can be read by this user alone. It blocks."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` durably: temporary file, fsync, rename, fsync of the directory. It blocks."""
    make_private(path.parent)
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(mode)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # Windows can't open directories; its rename is durable enough for us.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
