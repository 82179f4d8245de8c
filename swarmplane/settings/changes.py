"""Which settings differ between two readings of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swarmplane.settings.schema import Settings


def changed(before: Settings, after: Settings) -> tuple[str, ...]:
    """Paths of the keys whose values differ, in the order of the schema."""
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return tuple(key for key in new if old.get(key) != new[key])


def _flat(table: Mapping[str, Any], prefix: str = "") -> Mapping[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
