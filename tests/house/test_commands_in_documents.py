"""Every swarmctl line in the documents names a command that exists, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click

from cli.main import cli
from tests.house.source import documents, name

LINE = re.compile(r"(?:^ {4,}|`)(swarmctl [^`\n#]+)", re.MULTILINE)


def _lines() -> Iterator[tuple[str, str]]:
    for path in documents():
        if path.name != "cli.md":
            for line in LINE.findall(path.read_text(encoding="utf-8")):
                yield name(path), line.strip()


def _fault(line: str) -> str:
    """What is wrong with a command line; empty when nothing is."""
    command: click.Command = cli
    words = shlex.split(line)[1:]
    while words and isinstance(command, click.Group):
        if words[0].startswith("-"):
            break
        child = command.get_command(click.Context(command), words[0])
        if child is None:
            return f"no command {words[0]!r}"
        command, words = child, words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [
        word
        for word in words
        if word.startswith("-") and word.partition("=")[0] not in known | {"--help", "-"}
    ]
    return f"no option {', '.join(unknown)}" if unknown else ""


def test_commands_and_options_exist() -> None:
    faults = [f"{where}: {line}: {fault}" for where, line in _lines() if (fault := _fault(line))]
    assert not faults


def test_the_documents_show_the_main_commands() -> None:
    shown = {line.split()[1] for _, line in _lines()}
    assert {"up", "join", "demo", "status", "node", "token", "login", "leave"} <= shown
