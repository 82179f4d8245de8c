"""``swarmctl logs``."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.durations import Duration
from cli.invocation import Everywhere, invocation
from cli.output import emit_event
from cli.running import wait_for
from swarmplane.errors import NotFoundError

if TYPE_CHECKING:
    from swarmplane.datadir import DataDir

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_POLL_S: Final = 0.3


@click.command(cls=Everywhere)
@click.option("-f", "--follow", is_flag=True, help="Go on as it is written.")
@click.option("--engine", metavar="MODEL", help="Log of the engine that serves MODEL here.")
@click.option("--since", type=Duration(), metavar="1h", help="Only what is not older.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last N lines.")
def logs(follow: bool, engine: str | None, since: int | None, lines: int | None) -> None:
    """Show the log of this host, if it runs in the background, or of an engine."""
    data_dir = invocation().data_dir
    file = _engine_log(data_dir, engine) if engine else _host_log(data_dir)
    with file.open(encoding="utf-8", errors="replace") as stream:
        shown: Iterable[str] = stream
        if since is not None:
            shown = _not_older(stream, time.time() - since)
        for line in deque(shown, maxlen=lines) if lines is not None else shown:
            _show(line)
        if follow:
            wait_for(_follow(file, stream.tell()))


async def _follow(file: Path, offset: int) -> None:
    rest = ""
    while True:
        text, offset = await asyncio.to_thread(_read_from, file, offset)
        *whole, rest = (rest + text).split("\n")
        for line in whole:
            _show(line)
        await asyncio.sleep(_POLL_S)


def _read_from(file: Path, offset: int) -> tuple[str, int]:
    """What was written after ``offset``, and where that ends; a new file in its place from its start."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(offset if file.stat().st_size >= offset else 0)
            return stream.read(), stream.tell()
    except FileNotFoundError:
        return "", 0


def _show(line: str) -> None:
    text = line.rstrip("\n")
    emit_event("log", {"line": _COLOURS.sub("", text)}, text)


def _host_log(data_dir: DataDir) -> Path:
    from cli.service.hosting import installed_hosting
    from cli.supervise.detach import host_log

    file = host_log(data_dir)
    if file.exists():
        return file
    service = installed_hosting(data_dir.root, system=None)
    if service.host_log.exists():
        return service.host_log
    if service.installed:
        raise NotFoundError(f"this host is a service; its log: {service.log_hint}")
    raise NotFoundError(
        f"there is no {file}: a host in the foreground writes to its terminal, `swarmctl up -d` there"
    )


def _engine_log(data_dir: DataDir, model: str) -> Path:
    logs_by_name = {file.parent.name: file for file in sorted(data_dir.engines.glob("*/engine.log"))}
    if model in logs_by_name:
        return logs_by_name[model]
    like = [file for name, file in logs_by_name.items() if model.casefold() in name.casefold()]
    if len(like) == 1:
        return like[0]
    known = ", ".join(logs_by_name) or "none"
    raise NotFoundError(f"no engine's log is called {model!r}; there are: {known}")


def _not_older(lines: Iterable[str], than_s: float) -> Iterator[str]:
    """Lines from ``than_s`` on; one without a time belongs to the one before it."""
    wanted = False
    for line in lines:
        found = _MOMENT.search(_COLOURS.sub("", line[:160]))
        if found is not None:
            wanted = datetime.fromisoformat(found[0]).timestamp() >= than_s
        if wanted:
            yield line
