"""Names that stand for models: plain ones, and patterns in which ``*`` stands for any characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar

T = TypeVar("T")

WILD: Final = "*"
MOST_WILD: Final = 4
"""In one pattern."""
_REMEMBERED: Final = 1_024
_LONGEST: Final = 256


def is_pattern(alias: str) -> bool:
    """Whether ``alias`` stands for more than one name."""
    return WILD in alias


def matches(pattern: str, name: str) -> bool:
    """Whether ``name`` is among the names that ``pattern`` stands for. O(name x stars); case counts."""
    first, *rest = pattern.split(WILD)
    if not rest:
        return pattern == name
    last = rest.pop()
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    position, end = len(first), len(name) - len(last)
    for piece in rest:
        found = name.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def order(pattern: str) -> tuple[int, str]:
    """Sorts patterns so that the first which matches is meant: the most letters, then by text."""
    return (pattern.count(WILD) - len(pattern), pattern)


class Aliases(Generic[T]):
    """What names stand for, by alias and by pattern. Answers are those of a scan in :func:`order`.

    A plain alias is one look-up. A name for which no alias stands costs one for every length that the
    beginnings of patterns have, and is remembered: clients ask for the same few names.
    """

    __slots__ = ("_by_start", "_known", "_lengths", "_plain")

    def __init__(self, aliases: Iterable[tuple[str, T]]) -> None:
        """Of equal aliases the first counts."""
        self._plain: dict[str, T] = {}
        self._by_start: dict[str, list[tuple[str, T]]] = {}
        for alias, target in aliases:
            if is_pattern(alias):
                self._by_start.setdefault(alias.partition(WILD)[0], []).append((alias, target))
            else:
                self._plain.setdefault(alias, target)
        self._lengths = sorted({len(start) for start in self._by_start})
        self._known: dict[str, T | None] = {}

    def find(self, name: str) -> T | None:
        """What ``name`` stands for: by its alias, else by the pattern with the most letters."""
        found = self._plain.get(name)
        if found is not None or not self._lengths:
            return found
        if name in self._known:
            return self._known[name]
        patterns: list[tuple[str, T]] = []
        for length in self._lengths:
            if length > len(name):
                break
            patterns += self._by_start.get(name[:length], ())
        fitting = [one for one in patterns if matches(one[0], name)]
        found = min(fitting, key=lambda one: order(one[0]))[1] if fitting else None
        if len(self._known) < _REMEMBERED and len(name) <= _LONGEST:
            self._known[name] = found
        return found


def by_scan(aliases: Mapping[str, T], name: str) -> T | None:
    """What :meth:`Aliases.find` answers, for those who ask once. O(aliases)."""
    if name in aliases and not is_pattern(name):
        return aliases[name]
    fitting = [pattern for pattern in aliases if is_pattern(pattern) and matches(pattern, name)]
    return aliases[min(fitting, key=order)] if fitting else None


def without_tag(name: str) -> str:
    """The part of a model's name before its tag (``qwen3`` of ``qwen3:8b``); empty: it has no tag."""
    stem, colon, tag = name.rpartition(":")
    return stem if colon and tag and "/" not in tag else ""
