"""Change ``config.toml`` in place: comments and order stay, and only what is valid is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swarmplane.datadir import write_atomically
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.keys import Key, Shape, find_key, known_keys
from swarmplane.settings.layers import from_file, from_overrides
from swarmplane.settings.load import settings_of
from swarmplane.settings.schema import Settings

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Item


def edit(file: Path, assignments: Sequence[str], *, unset: Sequence[str] = ()) -> tuple[str, ...]:
    """Write ``key.path=value`` assignments into ``file`` and take the keys ``unset`` out.

    The keys that were changed, in the order given; nothing is written when nothing changes. It blocks.

    Raises:
        InvalidRequestError: A key is unknown, a value is wrong, or the file was wrong before.
    """
    import tomlkit

    settings, _ = settings_of([*from_file(file), *from_overrides(assignments)])
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    document = tomlkit.parse(text)
    changed = [_key_of(assignment.partition("=")[0].strip()) for assignment in assignments]
    for key in changed:
        _put(document, key, _plain(settings, key))
    removed = [_key_of(path) for path in unset]
    for key in removed:
        _remove(document, key.path.split("."))
    after = tomlkit.dumps(document)
    if after != text:
        write_atomically(file, after.encode())
    return tuple(dict.fromkeys(key.path for key in (*changed, *removed)))


def _key_of(path: str) -> Key:
    found = find_key(path)
    if found is None:
        raise InvalidRequestError(f"unknown setting {path}")
    return known_keys()[found[0].path]


def _plain(settings: Settings, key: Key) -> object:
    value: object = settings.model_dump(mode="json", exclude_defaults=key.shape is Shape.SECTIONS)
    for part in key.path.split("."):
        value = value.get(part, []) if isinstance(value, dict) else value
    return value


def _put(document: TOMLDocument, key: Key, value: object) -> None:
    import tomlkit

    table = document
    *sections, name = key.path.split(".")
    for section in sections:
        if section not in table:
            table[section] = tomlkit.table()
        table = table[section]
    if value is None:
        _remove(document, key.path.split("."))
    else:
        table[name] = _item(key, value)


def _item(key: Key, value: object) -> Item:
    import tomlkit

    if key.shape is not Shape.SECTIONS or not isinstance(value, list) or not value:
        return tomlkit.item(value)
    tables = tomlkit.aot()
    for entry in value:
        table = tomlkit.table()
        table.update(entry)
        tables.append(table)
    return tables


def _remove(document: TOMLDocument, parts: Sequence[str]) -> None:
    table = document
    for section in parts[:-1]:
        if section not in table:
            return
        table = table[section]
    if parts[-1] in table:
        table.remove(parts[-1])
