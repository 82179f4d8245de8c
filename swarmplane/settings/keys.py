"""The keys of the schema, by path, and how text becomes a value of one of them."""

from __future__ import annotations

import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from swarmplane.errors import InvalidRequestError
from swarmplane.settings.schema import Settings


class Shape(Enum):
    """What a value looks like, as far as reading text needs to know."""

    TEXT = "text"
    PATH = "path"
    SCALAR = "scalar"
    LIST = "list"
    SECTIONS = "sections"
    """A list of tables, as ``[[backends]]``."""
    TABLE = "table"
    """Free names with text values, as ``[node.labels]``."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting."""

    path: str
    shape: Shape
    field: FieldInfo
    section: type[BaseModel] | None = None
    """Of each entry, for SECTIONS."""

    @property
    def brief_field(self) -> str:
        """Field of an entry that a bare string stands for: the only required one."""
        if self.section is None:
            return ""
        required = [name for name, field in self.section.model_fields.items() if field.is_required()]
        return required[0] if len(required) == 1 else ""


@cache
def known_keys() -> Mapping[str, Key]:
    """Every key by path, in the order of the schema."""
    return types.MappingProxyType({key.path: key for key in _walk(Settings, "")})


def find_key(path: str) -> tuple[Key, str] | None:
    """The key at ``path`` and, inside a table of free names, the name; None where nothing is so called."""
    keys = known_keys()
    if path in keys:
        return keys[path], ""
    for key in keys.values():
        if key.shape is Shape.TABLE and path.startswith(f"{key.path}."):
            return key, path[len(key.path) + 1 :]
    return None


def nearest_key(path: str, among: Iterable[str] | None = None) -> str:
    """The known key most like ``path``; empty where none is."""
    candidates = list(known_keys() if among is None else among)
    close = difflib.get_close_matches(path, candidates, n=1, cutoff=0.6)
    if close:
        return close[0]
    last = path.rpartition(".")[2]
    by_last = {candidate.rpartition(".")[2]: candidate for candidate in candidates}
    same = difflib.get_close_matches(last, by_last, n=1, cutoff=0.75)
    return by_last[same[0]] if same else ""


def is_section(path: str) -> bool:
    """Whether ``path`` is a table of settings."""
    return any(known.startswith(f"{path}.") for known in known_keys())


def value_of_text(key: Key, text: str) -> object:
    """What ``text`` (environment or command line) means for ``key``; validated later.

    Lists are JSON or TOML when they begin with ``[``, else separated by commas; tables likewise with ``{``,
    else ``name=value`` pairs. Text stays text, also where it looks like a number.

    Raises:
        InvalidRequestError: It begins like JSON or TOML and is neither.
    """
    stripped = text.strip()
    match key.shape:
        case Shape.TEXT | Shape.PATH:
            return _unquoted(stripped)
        case Shape.SCALAR:
            return stripped
        case Shape.TABLE:
            return _structured(key, stripped) if stripped.startswith("{") else _pairs(key, stripped)
        case Shape.LIST | Shape.SECTIONS if stripped.startswith(("[", "{")):
            return _structured(key, stripped)
        case Shape.LIST | Shape.SECTIONS:
            return _split(stripped)


def normal_value(key: Key, value: object, base: Path) -> object:
    """``value`` with the short forms written out and relative paths resolved against ``base``."""
    match key.shape:
        case Shape.LIST if isinstance(value, str):
            return [value]
        case Shape.SECTIONS:
            items = value if isinstance(value, list) else [value]
            return [_normal_entry(key, item, base) for item in items]
        case Shape.PATH if isinstance(value, str) and value:
            return resolved_path(value, base)
        case Shape.TABLE if isinstance(value, dict):
            return {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}
        case _:
            return value


def resolved_path(text: str, base: Path) -> str:
    """An absolute path; ``~`` is a home directory, relative ones start at ``base``."""
    return str((base / Path(text).expanduser()).absolute())


def _normal_entry(key: Key, item: object, base: Path) -> object:
    if isinstance(item, str) and key.brief_field:
        return {key.brief_field: item}
    if not isinstance(item, dict) or key.section is None:
        return item
    fields = key.section.model_fields
    return {
        name: resolved_path(value, base)
        if name in fields and _shape(fields[name].annotation) is Shape.PATH and isinstance(value, str)
        else value
        for name, value in item.items()
    }


def _walk(section: type[BaseModel], prefix: str) -> Iterable[Key]:
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, f"{path}.")
            continue
        yield Key(path, _shape(field.annotation), field, _entry_section(field.annotation))


def _entry_section(annotation: object) -> type[BaseModel] | None:
    arguments = typing.get_args(annotation)
    if arguments and isinstance(arguments[0], type) and issubclass(arguments[0], BaseModel):
        return arguments[0]
    return None


def _shape(annotation: object) -> Shape:
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return Shape.SECTIONS if _entry_section(annotation) else Shape.LIST
    if origin is dict:
        return Shape.TABLE
    if origin in {typing.Union, types.UnionType}:
        return _shape(next(one for one in typing.get_args(annotation) if one is not type(None)))
    if annotation is str or origin is typing.Literal:
        return Shape.TEXT
    return Shape.PATH if annotation is Path else Shape.SCALAR


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _pairs(key: Key, text: str) -> dict[str, str]:
    pairs = {}
    for item in _split(text):
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise InvalidRequestError(f"{key.path}: {item!r} is not name=value")
        pairs[name.strip()] = value.strip()
    return pairs


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        try:
            return str(tomllib.loads(f"value = {text}")["value"])
        except tomllib.TOMLDecodeError:
            return text
    return text


def _structured(key: Key, text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        pass
    else:
        return value
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise InvalidRequestError(
            f"{key.path}: {text!r} is neither JSON nor TOML; put quotes around texts"
        ) from None
