"""Where a host's data and its ``config.toml`` are when nobody says otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from swarmplane.datadir import DataDir

_NAME = "swarmplane"


def default_data_dir(environ: Mapping[str, str] | None = None, *, platform: str = sys.platform) -> Path:
    """Platform's place for data: ``~/.local/share/swarmplane``, Application Support, or LocalAppData.

    ``SWARMPLANE_DATA_DIR`` wins over the convention.
    """
    env = os.environ if environ is None else environ
    if named := env.get("SWARMPLANE_DATA_DIR"):
        return Path(named).expanduser().absolute()
    return _conventional_data_dir(env, platform)


def config_file(
    data_dir: Path, environ: Mapping[str, str] | None = None, *, platform: str = sys.platform
) -> Path:
    """``config.toml`` of a data directory.

    The conventional data directory has it where the platform keeps configuration, every other one
    (``--data-dir``) in itself, so that several hosts on one machine share nothing.
    """
    env = os.environ if environ is None else environ
    if data_dir.absolute() != _conventional_data_dir(env, platform):
        return DataDir(data_dir).config
    if platform == "win32":
        return Path(env.get("APPDATA") or _home(env) / "AppData" / "Roaming") / _NAME / "config.toml"
    if platform == "darwin":
        return DataDir(data_dir).config
    return Path(env.get("XDG_CONFIG_HOME") or _home(env) / ".config") / _NAME / "config.toml"


def _conventional_data_dir(env: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        return Path(env.get("LOCALAPPDATA") or _home(env) / "AppData" / "Local") / _NAME
    if platform == "darwin":
        return _home(env) / "Library" / "Application Support" / _NAME
    return Path(env.get("XDG_DATA_HOME") or _home(env) / ".local" / "share") / _NAME


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or Path.home())
