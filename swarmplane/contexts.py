"""Credentials of people on this host: ``contexts/<name>``, one of which is in use."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from swarmplane.credentials.files import Credential, credential_exists, save_credential
from swarmplane.datadir import DataDir, write_atomically
from swarmplane.errors import InvalidRequestError, NotFoundError

DEFAULT: Final = "default"
"""The one that founding makes."""
_FILE: Final = "context.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Context:
    """A person's credential for a swarm."""

    name: str
    swarm: str
    swarm_name: str
    addresses: tuple[str, ...]
    """``host:port`` of control planes, most preferred first."""
    subject: str
    """``user:<name>``."""
    join_addresses: tuple[str, ...] = ()


def read_context(data_dir: DataDir, name: str) -> Context:
    """The context called ``name``.

    Raises:
        InvalidRequestError: No context can be called so.
        NotFoundError: There is none, or it can't be read.
    """
    directory = _directory(data_dir, name)
    try:
        document = json.loads((directory / _FILE).read_text(encoding="utf-8"))
        return Context(
            name=name,
            swarm=str(document["swarm"]),
            swarm_name=str(document.get("swarm_name", "")),
            addresses=tuple(map(str, document.get("addresses", ()))),
            subject=str(document.get("subject", "")),
            join_addresses=tuple(map(str, document.get("join_addresses", ()))),
        )
    except FileNotFoundError:
        known = ", ".join(context_names(data_dir)) or "none"
        raise NotFoundError(f"there is no context {name!r}; there are: {known}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotFoundError(f"context {name!r} can't be read: {error}; log in again") from None


def write_context(data_dir: DataDir, context: Context, credential: Credential) -> None:
    """Save a context and its credential, the certificate last."""
    directory = _directory(data_dir, context.name)
    document = {key: value for key, value in asdict(context).items() if key != "name"}
    write_atomically(directory / _FILE, json.dumps(document, indent=2).encode() + b"\n")
    save_credential(directory, credential)


def remove_context(data_dir: DataDir, name: str) -> None:
    """Delete a context with its key.

    Raises:
        NotFoundError: There is none.
    """
    read_context(data_dir, name)
    shutil.rmtree(_directory(data_dir, name))
    if current_name(data_dir) == name:
        _current_file(data_dir).unlink(missing_ok=True)


def context_names(data_dir: DataDir) -> Sequence[str]:
    """Names of all contexts, in order."""
    directory = data_dir.context(DEFAULT).parent
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if credential_exists(path))


def current_name(data_dir: DataDir) -> str:
    """The context in use: the chosen one, else ``default`` where it exists, else the only one, else none."""
    names = context_names(data_dir)
    try:
        chosen = _current_file(data_dir).read_text(encoding="utf-8").strip()
    except OSError:
        chosen = ""
    if chosen in names:
        return chosen
    return DEFAULT if DEFAULT in names else names[0] if len(names) == 1 else ""


def use_context(data_dir: DataDir, name: str) -> None:
    """Choose the context that commands act with.

    Raises:
        NotFoundError: There is none.
    """
    read_context(data_dir, name)
    write_atomically(_current_file(data_dir), f"{name}\n".encode())


def _directory(data_dir: DataDir, name: str) -> Path:
    if not _NAME.match(name):
        raise InvalidRequestError(f"{name!r} is no name for a context; use letters, digits, dots and dashes")
    return data_dir.context(name)


def _current_file(data_dir: DataDir) -> Path:
    return data_dir.context(DEFAULT).parent / "current"
