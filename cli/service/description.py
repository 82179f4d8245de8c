"""What a service runs, as whom, and how long it may take to stop; the same for every operating system."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_UNSAFE: Final = re.compile(r"[^a-z0-9]+")
NAME: Final = "swarmplane"
START_S: Final = 300
"""Longest wait for a host to be ready: two processes that may take a minute each, and etcd after a boot."""
STOP_MARGIN_S: Final = 30
"""What a stop takes beside ``drain_s``: streams cut off, the control plane after its sidecar, a kill."""
RESTART_S: Final = 10
"""Between a failure and the next start."""
HOST_LOG: Final = "host.log"
OPEN_FILES: Final = 65_536
CARRIED: Final = (
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "LD_LIBRARY_PATH",
    "OLLAMA_HOST",
    "OLLAMA_ORIGINS",
    "PATH",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
)
"""Variables that change what a host finds: engines, inference servers, its own directories. No secrets."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a service runs as."""

    name: str
    home: Path


@dataclass(frozen=True, slots=True)
class Description:
    """A host as a service."""

    name: str
    """Unique on the machine: one for each data directory."""
    command: tuple[str, ...]
    """Program, by its whole path, and arguments."""
    data_dir: Path
    account: Account
    environment: Mapping[str, str]
    """Variables that it gets beside those of every service."""
    log_dir: Path
    """Where files of logs go, on systems that keep them as files."""
    stop_s: int
    """It is killed so long after it was asked to stop: longer than it drains."""


def name_of(data_dir: Path, conventional: Path) -> str:
    """The service of the host in ``data_dir``: ``swarmplane`` for the ``conventional`` one."""
    if data_dir == conventional:
        return NAME
    slug = _UNSAFE.sub("-", data_dir.name.lower()).strip("-")[:24]
    # Two directories may have one last name.
    mark = hashlib.sha256(str(data_dir).encode()).hexdigest()[:6]
    return "-".join(part for part in (NAME, slug, mark) if part)


def stop_s(drain_s: float) -> int:
    """How long a service may take to stop that finishes streams for ``drain_s``."""
    return int(drain_s + 0.999) + STOP_MARGIN_S


def carried(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of :data:`CARRIED` that are set, and can stand in one line."""
    return {
        name: environ[name] for name in CARRIED if environ.get(name, "").isprintable() and environ.get(name)
    }
