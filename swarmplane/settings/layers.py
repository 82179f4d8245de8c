"""Where settings come from: ``config.toml``, the environment, the command line. Each becomes found values."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarmplane.errors import InvalidRequestError
from swarmplane.settings.keys import find_key, is_section, known_keys, normal_value, value_of_text

PREFIX: Final = "SWARMPLANE_"
NOT_SETTINGS: Final = frozenset({"DATA_DIR", "CONTEXT", "JOIN_TOKEN"})
"""Variables of the command line tool itself."""
# Kubernetes puts these into every pod beside a Service named `swarmplane`.
_OF_KUBERNETES: Final = re.compile(r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)\Z")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from."""

    kind: str
    """``default``, ``file``, ``environment`` or ``command line``."""
    where: str = ""
    """Path of the file, name of the variable, or the flag."""

    def __str__(self) -> str:
        return self.where or self.kind


@dataclass(frozen=True, slots=True)
class Found:
    """A value somebody gave."""

    path: str
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that is no setting."""

    path: str
    origin: Origin


DEFAULT: Final = Origin("default")


def from_file(path: Path) -> Iterator[Found | Unknown]:
    """Values of ``config.toml``; none if there is no such file. Relative paths start at its directory.

    Raises:
        InvalidRequestError: It can't be read or is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except FileNotFoundError:
        return
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequestError(f"{path} is not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{path} can't be read: {error}") from None
    yield from _from_table(document, "", Origin("file", str(path)), path.parent)


def from_environment(environ: Mapping[str, str]) -> Iterator[Found | Unknown]:
    """Values of ``SWARMPLANE_SECTION__KEY`` variables; empty ones count as not set."""
    for name, text in sorted(environ.items()):
        rest = name.removeprefix(PREFIX)
        if rest == name or not text or rest in NOT_SETTINGS or _OF_KUBERNETES.match(rest):
            continue
        path = rest.lower().replace("__", ".")
        yield from _from_text(path, text, Origin("environment", name))


def from_overrides(overrides: Sequence[str]) -> Iterator[Found | Unknown]:
    """Values of ``key.path=value`` texts.

    Raises:
        InvalidRequestError: One has no ``=``.
    """
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator:
            raise InvalidRequestError(f"{override!r} is no setting; write key=value, as client.listen=:8080")
        yield from _from_text(path.strip(), text, Origin("command line", f"--set {path.strip()}"))


def _from_text(path: str, text: str, origin: Origin) -> Iterator[Found | Unknown]:
    found = find_key(path)
    if found is None:
        yield Unknown(path, origin)
        return
    key, inner = found
    try:
        value = text.strip() if inner else value_of_text(key, text)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{error.message} (from {origin})") from None
    value = {inner: value} if inner else value
    yield from _checked(path if inner else key.path, key.path, value, origin, Path.cwd())


def _from_table(
    table: Mapping[str, Any], prefix: str, origin: Origin, base: Path
) -> Iterator[Found | Unknown]:
    for name, value in table.items():
        path = f"{prefix}{name}"
        if path in known_keys():
            yield from _checked(path, path, value, origin, base)
        elif is_section(path) and isinstance(value, dict):
            yield from _from_table(value, f"{path}.", origin, base)
        elif is_section(path):
            raise InvalidRequestError(f"{path} is a table of settings: write [{path}] (in {origin})")
        else:
            yield Unknown(path, origin)


def _checked(path: str, of_key: str, value: object, origin: Origin, base: Path) -> Iterator[Found | Unknown]:
    key = known_keys()[of_key]
    value = normal_value(key, value, base)
    if key.section is not None and isinstance(value, list):
        fields = key.section.model_fields
        yield from (Unknown(f"{of_key}.{name}", origin) for name in _foreign(value, fields))
        value = [
            {name: item for name, item in entry.items() if name in fields}
            if isinstance(entry, dict)
            else entry
            for entry in value
        ]
    yield Found(path, value, origin)


def _foreign(entries: Iterable[Any], fields: Mapping[str, Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, dict):
            yield from (name for name in entry if name not in fields)


def process_environment() -> Mapping[str, str]:
    """This process's environment as it stands."""
    return dict(os.environ)
