"""Backends of this host as ``config.toml`` names them, and what is known of each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from swarmplane.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from swarmplane.datadir import DataDir
    from swarmplane.settings.backend import BackendSettings
    from swarmplane.settings.schema import Settings

Item = Mapping[str, Any]
"""One backend, as ``GET /backends`` of the admin listener has it."""
LOOK_S: Final = 30.0
"""Longest time for a look from a process of its own, its start included."""


def saved(data_dir: DataDir) -> tuple[BackendSettings, ...]:
    """The ``[[backends]]`` of ``config.toml``.

    Raises:
        InvalidRequestError: The file is wrong.
    """
    return _in_file(data_dir).backends


def save(data_dir: DataDir, entry: BackendSettings) -> None:
    """Write ``entry`` into ``config.toml``, instead of one with its name or URL; it is ignored no longer.

    Raises:
        InvalidRequestError: The file would be wrong.
    """
    kept = [one for one in saved(data_dir) if one.name != entry.name and _plain(one.url) != _plain(entry.url)]
    _write(data_dir, [*kept, entry])
    place = entry.url.rpartition("://")[2].partition("/")[0]
    ignored = _in_file(data_dir).discovery.ignore
    if {entry.name, place} & set(ignored):
        _ignore(data_dir, [one for one in ignored if one not in {entry.name, place}])


def remove(data_dir: DataDir, name: str) -> bool:
    """Take the backend ``name`` (or with this URL) out of ``config.toml``; False: none is named so there."""
    before = saved(data_dir)
    kept = [one for one in before if name != one.name and _plain(name) != _plain(one.url)]
    if len(kept) == len(before):
        return False
    _write(data_dir, kept)
    return True


def ignore(data_dir: DataDir, name: str) -> None:
    """Leave out what is found by itself and called ``name``."""
    ignored = _in_file(data_dir).discovery.ignore
    if name not in ignored:
        _ignore(data_dir, [*ignored, name])


def known(data_dir: DataDir, admin: str) -> list[Item]:
    """Every backend of this host, ordered by name: as the running sidecar has it, else as a look finds it.

    Args:
        data_dir: Of the host.
        admin: URL of its sidecar's admin listener; empty: it does not run.

    Raises:
        UnavailableError: It does not answer, or the look failed.
    """
    if admin:
        from cli.client.local import get_json

        items = get_json(admin, "/backends").get("items")
        return list(items) if isinstance(items, list) else []
    return _look(data_dir)


def look_at(data_dir: DataDir, url: str, *, name: str = "", key_file: Path | None = None) -> Item:
    """One look at ``url``; ``node`` is what a node of a swarm tells of itself there, else None.

    Raises:
        UnavailableError: It is no URL of a backend, or the look failed.
    """
    more = ["--url", url, *(["--name", name] if name else [])]
    return _look(data_dir, *more, *(["--key-file", str(key_file)] if key_file is not None else []))[0]


def look_at_entry(data_dir: DataDir, entry: BackendSettings) -> Item:
    """One look at the backend that ``entry`` of the settings describes.

    Raises:
        UnavailableError: It is none, or the look failed.
    """
    return _look(data_dir, "--entry", entry.model_dump_json(exclude_defaults=True))[0]


def found_in(items: Sequence[Item], name: str) -> Item:
    """The one of ``items`` that is called ``name``, or has it as its URL.

    Raises:
        NotFoundError: None is.
    """
    for item in items:
        if name in {item["name"], item["url"]}:
            return item
    names = ", ".join(str(item["name"]) for item in items) or "there is none"
    raise NotFoundError(f"no backend of this host is called {name}; known: {names}")


def _look(data_dir: DataDir, *arguments: str) -> list[Item]:
    """Asked by a process of its own: how servers are asked is the sidecar's knowledge."""
    command = [sys.executable, "-m", "sidecar.process.probing", "--data-dir", str(data_dir.root), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command, capture_output=True, text=True, timeout=LOOK_S, check=False, stdin=subprocess.DEVNULL
        )
        items = json.loads(done.stdout)["items"] if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise UnavailableError(f"backends can't be looked at: {error}") from None
    if not isinstance(items, list):
        raise UnavailableError(done.stderr.strip() or "backends can't be looked at")
    return items


def _write(data_dir: DataDir, entries: Sequence[BackendSettings]) -> None:
    from swarmplane.settings.directories import config_file
    from swarmplane.settings.edit import edit

    tables = [one.model_dump(mode="json", exclude_defaults=True) for one in entries]
    file = config_file(data_dir.root)
    if tables:
        edit(file, [f"backends={json.dumps(tables)}"])
    else:
        edit(file, [], unset=["backends"])


def _in_file(data_dir: DataDir) -> Settings:
    """What ``config.toml`` says, and it alone."""
    from swarmplane.settings.directories import config_file
    from swarmplane.settings.layers import from_file
    from swarmplane.settings.load import settings_of

    return settings_of(list(from_file(config_file(data_dir.root))))[0]


def _plain(url: str) -> str:
    """``url`` as all its spellings have it."""
    whole = url if "://" in url else f"http://{url}"
    return whole.rstrip("/").removesuffix("/v1").rstrip("/").lower()


def _ignore(data_dir: DataDir, names: Sequence[str]) -> None:
    from swarmplane.settings.directories import config_file
    from swarmplane.settings.edit import edit

    edit(config_file(data_dir.root), [f"discovery.ignore={json.dumps(list(names))}"])
