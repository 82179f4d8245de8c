"""``swarmctl doctor``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

import click

from cli.invocation import Everywhere, invocation
from cli.output import emit
from cli.running import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.doctor.check import Row

FAILED: Final = 1
_MARKS: Final = {"ok": "ok", "skipped": "-", "unknown": "?"}


@click.command(cls=Everywhere)
def doctor() -> None:
    """Examine this host and its swarm, and say how to mend what is wrong; 1 if something is an error."""
    from cli.doctor.checks import ALL
    from cli.doctor.examine import examine
    from cli.doctor.host import examined
    from cli.doctor.progress import shown_progress

    called = invocation()
    with shown_progress() as tell:
        found = wait_for(examine(examined(called), ALL, tell))
    counts = {
        "errors": sum(row.is_error for row in found),
        "warnings": sum(row.state == "failed" and row.severity == "warning" for row in found),
        "infos": sum(row.state == "failed" and row.severity == "info" for row in found),
        "unknown": sum(row.state == "unknown" for row in found),
    }
    emit(
        "doctor",
        {"ok": not counts["errors"], **counts, "items": [row.document() for row in found]},
        _words(found),
    )
    if counts["errors"]:
        click.get_current_context().exit(FAILED)


def _words(rows: Sequence[Row]) -> str:
    width = max(len(row.check.id) for row in rows)
    lines: list[str] = []
    for group, members in groupby(rows, key=lambda row: row.check.group):
        lines += ["", group] if lines else [group]
        for row in members:
            mark = row.severity if row.state == "failed" else _MARKS[row.state]
            lines.append(f"  {mark:<8} {row.check.id:<{width}}  {row.check.title}: {row.detail}")
            if row.fix:
                lines.append(f"  {'':<8} {'':<{width}}  to mend it: {row.fix}")
    return "\n".join(lines)
