"""``swarmctl connect``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli.invocation import Everywhere, Invocation, invocation
from cli.output import emit, emit_list, say

if TYPE_CHECKING:
    from cli.connect.tools import Place, Tool

_DEFAULT_URL: Final = "http://127.0.0.1:11400"


@click.command(cls=Everywhere)
@click.argument("tool", default="", metavar="[TOOL]")
@click.option("--write", "to_write", is_flag=True, help="Write the tool's settings file, after a copy of it.")
@click.option("--undo", "to_undo", is_flag=True, help="Take out again what --write put in.")
@click.option("--model", default="", metavar="NAME", help="Model to use; without it the first there is.")
@click.option("--url", default="", metavar="URL", help="Client URL; without it this host's.")
@click.option(
    "--key-file", default="", metavar="F", help="File with the tool's API key, - for standard input."
)
@click.option("--file", type=click.Path(dir_okay=False), metavar="FILE", help="Settings file to write.")
def connect(
    tool: str, to_write: bool, to_undo: bool, model: str, url: str, key_file: str, file: str | None
) -> None:
    """Point another program to this host: print the settings it needs, or write them.

    Without TOOL, list the programs that are known. What was written is taken out again by --undo; what
    somebody changed in the file since stays.

    Where the host asks for API keys, --key-file gives the tool one: swarmctl key create --name TOOL > F.
    """
    from cli.connect.key import read_key
    from cli.connect.tools import KEY, TOOLS

    called = invocation()
    if not tool:
        _list(called)
        return
    if tool not in TOOLS:
        raise click.UsageError(f"no settings are known for {tool}; known: {', '.join(TOOLS)}")
    if to_write and to_undo:
        raise click.UsageError("--write or --undo, not both")
    found = TOOLS[tool]
    if to_undo:
        _undo(called, found)
        return
    place = _place(called, found, url, model, read_key(key_file) if key_file else KEY)
    if to_write:
        _write(called, found, place, Path(file) if file else None)
    else:
        _show(found, place, file)


def _list(called: Invocation) -> None:
    from cli.connect.files import written
    from cli.connect.tools import TOOLS

    items = []
    for one in TOOLS.values():
        done = written(called.data_dir, one)
        file = done.file if done is not None else f"~/{one.file}" if one.file else ""
        items.append({"name": one.name, "title": one.title, "file": file, "connected": done is not None})
    emit_list("tools", items, ("name", "title", "file", "connected"))


def _show(tool: Tool, place: Place, file: str | None) -> None:
    from cli.connect.forms import printed

    text = printed(tool, place)
    emit("connect", {**_document(tool, place, _file(tool, file)), "changed": False}, text)
    where = _file(tool, file)
    say(f"these are for {where}; --write puts them there" if where else f"these are for {tool.title}")
    _note(tool, place)


def _write(called: Invocation, tool: Tool, place: Place, file: Path | None) -> None:
    from cli.connect.files import write

    where = _file(tool, str(file) if file else None)
    if where is None:
        raise click.UsageError(f"{tool.title} has no settings file of its own; name one with --file")
    done = write(called.data_dir, tool, where, tool.settings(place), secret=place.keyed)
    document = _document(tool, replace(place, key="...") if place.keyed else place, where)
    if done is None:
        emit("connect", {**document, "changed": False}, f"{where} has them already")
    else:
        copy = f", as it was: {done.backup}" if done.backup else ""
        document |= {"changed": True, "backup": done.backup or None}
        emit("connect", document, f"{done.file} is written{copy}")
    _note(tool, place)


def _undo(called: Invocation, tool: Tool) -> None:
    from cli.connect.files import undo

    undone = undo(called.data_dir, tool)
    if undone is None:
        emit("connect", {"tool": tool.name, "changed": False}, f"nothing was written for {tool.title}")
        return
    done, exact = undone
    words = "is as it was" if exact else "has them no more; what was changed in it since stays"
    document = {"tool": tool.name, "file": done.file, "changed": True, "exact": exact}
    emit("connect", document, f"{done.file} {words}")


def _document(tool: Tool, place: Place, file: Path | None) -> dict[str, Any]:
    return {
        "tool": tool.name,
        "url": place.url,
        "model": place.model,
        "file": str(file) if file else None,
        "settings": tool.settings(place),
        "note": tool.note(place),
    }


def _note(tool: Tool, place: Place) -> None:
    if words := tool.note(place):
        say(words)


def _file(tool: Tool, named: str | None) -> Path | None:
    if named:
        return Path(named).expanduser().absolute()
    return Path.home() / tool.file if tool.file else None


def _place(called: Invocation, tool: Tool, url: str, model: str, key: str) -> Place:
    """Where the tool is pointed to; asks this host which models there are.

    Raises:
        FailedPreconditionError: The host wants a key, or another one.
    """
    from cli.client.local import get_json
    from cli.connect.key import key_wanted, refused
    from cli.connect.tools import KEY, Place
    from swarmplane.errors import FailedPreconditionError, UnavailableError
    from swarmplane.runtime import read_runtime

    runtime = read_runtime(called.data_dir)
    url = (url or (runtime.urls.get("client", "") if runtime is not None else "") or _DEFAULT_URL).rstrip("/")
    try:
        told = get_json(url, "/v1/models", key=key)
    except UnavailableError:
        told = {}
    if refused(told):
        raise FailedPreconditionError(key_wanted(tool.name, shown=key != KEY))
    listed = told.get("data")
    models = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    chosen = next((one for one in models if model in {"", one.get("id")} and (model or _talks(one))), None)
    if chosen is None:
        if not model:
            say("this host has no model yet: name the one to be used with --model")
        elif models:
            say(f"warning: {model} is not a model of the swarm now")
        return Place(url, model or "MODEL", key=key)
    facts = chosen.get("swarm")
    context = facts.get("context_length") if isinstance(facts, dict) else None
    known = context if isinstance(context, int) and context else 8192
    return Place(url, str(chosen["id"]), known, key)


def _talks(entry: dict[str, Any]) -> bool:
    """Whether it is for chats, as far as its name tells."""
    name = str(entry.get("id", "")).lower()
    return not any(word in name for word in ("embed", "rerank", "whisper", "bge-"))
