"""The API key that a program is given: read from a file, and asked for where the host wants one."""

from __future__ import annotations

import sys
from pathlib import Path

import click


def read_key(file: str) -> str:
    """The key in ``file``, or on standard input for ``-``. It blocks.

    Raises:
        click.UsageError: There is none, or it could not stand in a line of settings.
    """
    try:
        text = sys.stdin.readline() if file == "-" else Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--key-file can't be read: {error}") from None
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or set(key) & set(" \"'\\"):
        raise click.UsageError("--key-file has to hold one API key, as swarmctl key create prints it")
    return key


def refused(listed: object) -> bool:
    """Whether a host answered that it wants a key, or another one."""
    error = listed.get("error") if isinstance(listed, dict) else None
    return isinstance(error, dict) and error.get("code") == "invalid_api_key"


def key_wanted(tool: str, *, shown: bool) -> str:
    """What to do where it was."""
    first = "the host refuses this API key" if shown else "this host asks programs for an API key"
    return (
        f"{first}: swarmctl key create --name {tool} > FILE, on a machine of an operator; "
        f"then swarmctl connect {tool} --key-file FILE"
    )
