"""Data on stdout, words on stderr; one JSON document or aligned columns."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence

import click

from cli.invocation import invocation


def say(text: str) -> None:
    """Words for people, on stderr; lost where nobody can read them any longer, as on a closed terminal."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def emit(what: str, document: Mapping[str, object], text: str) -> None:
    """Print ``swarmctl.<what>/v1`` with ``document``'s fields, or ``text`` without ``--json``."""
    if invocation().as_json:
        print_document(what, document)
    else:
        click.echo(text)


def emit_list(
    what: str,
    items: Sequence[Mapping[str, object]],
    columns: Sequence[str],
    *,
    none: str = "",
    more: Mapping[str, object] | None = None,
) -> None:
    """Print ``items`` as ``swarmctl.<what>/v1``, or the ``columns`` of each as a table.

    Args:
        what: Name in the schema, plural.
        items: Each with ``name``, and ``id`` where it has one.
        columns: Keys to show to people; a missing or empty value shows as ``-``.
        none: Words for people when there are none.
        more: Fields beside ``items``.
    """
    if invocation().as_json:
        print_document(what, {**(more or {}), "items": list(items)})
    elif items:
        click.echo(table(items, columns))
    elif none:
        say(none)


def print_document(what: str, document: Mapping[str, object]) -> None:
    """Print one indented JSON document."""
    click.echo(json.dumps({"schema": f"swarmctl.{what}/v1", **document}, indent=2, ensure_ascii=False))


def emit_event(what: str, document: Mapping[str, object], text: str) -> None:
    """Print one change as it happens: a JSON object on a line of its own, or ``text``."""
    if invocation().as_json:
        text = json.dumps({"schema": f"swarmctl.{what}/v1", **document}, ensure_ascii=False)
    click.echo(text)
    sys.stdout.flush()


def table(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Left-aligned columns under upper-case heads; numbers to the right."""
    shown = [[_cell(row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ").upper() for column in columns]
    widths = [max(map(len, column)) for column in zip(heads, *shown, strict=True)]
    numeric = [
        bool(shown) and all(cell == "-" or cell.replace(".", "", 1).isdigit() for cell in column)
        for column in zip(*shown, strict=True)
    ]
    lines = [heads, *shown]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in value.items())
    return str(value)


def ago(seconds: float) -> str:
    """A length of time in its largest unit: ``3s``, ``5m``, ``2h``, ``4d``."""
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length_s:
            return f"{int(seconds // length_s)}{unit}"
    return f"{max(0, int(seconds))}s"
