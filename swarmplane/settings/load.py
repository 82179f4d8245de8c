"""Settings of one host: command line over environment over ``config.toml`` over defaults."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from swarmplane.errors import InvalidRequestError
from swarmplane.settings.directories import config_file
from swarmplane.settings.keys import find_key, known_keys, nearest_key
from swarmplane.settings.layers import (
    DEFAULT,
    Found,
    Origin,
    Unknown,
    from_environment,
    from_file,
    from_overrides,
    process_environment,
)
from swarmplane.settings.schema import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each came from."""

    settings: Settings
    file: Path
    """``config.toml``, whether it exists or not."""
    origins: Mapping[str, Origin]
    """By key; every key that is not a default."""
    warnings: tuple[str, ...] = ()

    def origin(self, path: str) -> Origin:
        """Where the value of ``path`` came from."""
        return self.origins.get(path, DEFAULT)


def load(data_dir: Path, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Settings:
    """Settings of the host with ``data_dir``; what ``config.lenient`` forgives is logged.

    Args:
        data_dir: Decides which ``config.toml`` is read.
        overrides: ``key.path=value``, as the command line gives them.
        environ: This process's environment by default.

    Raises:
        InvalidRequestError: A key is unknown or a value is wrong; names key, value and source, all of them.
    """
    loaded = load_with_origins(data_dir, overrides, environ)
    for warning in loaded.warnings:
        _log.warning(warning)
    return loaded.settings


def load_with_origins(
    data_dir: Path, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """As :func:`load`, and says where every value came from; warnings are returned, not logged."""
    env = process_environment() if environ is None else environ
    file = config_file(data_dir, env)
    found = [*from_file(file), *from_environment(env), *from_overrides(overrides)]
    settings, complaints = settings_of(found)
    origins = {path: origin for path, (_, origin) in _merged(found).items()}
    return Loaded(settings, file, origins, complaints)


def settings_of(found: Sequence[Found | Unknown]) -> tuple[Settings, tuple[str, ...]]:
    """Settings made of values found, later ones over earlier ones, and what ``config.lenient`` forgave.

    Raises:
        InvalidRequestError: A key is unknown or a value is wrong.
    """
    complaints = tuple(_complaints(one for one in found if isinstance(one, Unknown)))
    origins = {one.path: one.origin for one in found if isinstance(one, Found)}
    return _validated(_merged(found), complaints, origins), complaints


def _complaints(unknown: Iterable[Unknown]) -> list[str]:
    complaints = []
    for one in unknown:
        near = nearest_key(one.path, _names_beside(one.path))
        hint = f"; did you mean {near}?" if near else "; `swarmctl config schema` lists all settings"
        complaints.append(f"unknown setting {one.path} (in {one.origin}){hint}")
    return complaints


def _names_beside(path: str) -> list[str] | None:
    """Names in an entry of a list of tables, if ``path`` is in one."""
    key = known_keys().get(path.rpartition(".")[0])
    if key is None or key.section is None:
        return None
    return [f"{key.path}.{name}" for name in key.section.model_fields]


def _merged(found: Iterable[Found | Unknown]) -> dict[str, tuple[object, Origin]]:
    values: dict[str, tuple[object, Origin]] = {}
    for one in found:
        if isinstance(one, Unknown):
            continue
        resolved = find_key(one.path)
        if resolved is None:  # the layers let nothing else through
            continue
        key, inner = resolved
        value = one.value
        before, _ = values.get(key.path, ({}, DEFAULT))
        if inner and isinstance(before, dict) and isinstance(value, dict):
            # One name of a table, given on its own, leaves the others as they are.
            value = {**before, **value}
        values[key.path] = (value, one.origin)
    return values


def _validated(
    values: Mapping[str, tuple[object, Origin]], complaints: Sequence[str], origins: Mapping[str, Origin]
) -> Settings:
    document: dict[str, Any] = {}
    for path, (value, _) in values.items():
        table = document
        *sections, name = path.split(".")
        for section in sections:
            table = table.setdefault(section, {})
        table[name] = value
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        wrong = [_sentence(one, origins) for one in error.errors()]
        raise InvalidRequestError("\n".join([*complaints, *wrong])) from None
    if complaints and not settings.config.lenient:
        raise InvalidRequestError("\n".join(complaints))
    return settings


def _sentence(error: ErrorDetails, origins: Mapping[str, Origin]) -> str:
    location = error["loc"]
    path = _text_of(location)
    origin = next(
        (
            origins[prefix]
            for end in range(len(location), 0, -1)
            if (prefix := _text_of(location[:end])) in origins
        ),
        DEFAULT,
    )
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if error["type"] == "missing":
        return f"{path} is missing (in {origin})"
    return f"{path} = {error['input']!r} is wrong: {message} (from {origin})"


def _text_of(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
