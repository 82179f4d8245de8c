"""How a join token is given: by file, by standard input, by environment, or, with a warning, in argv."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cli.output import say

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
VARIABLE: Final = "SWARMPLANE_JOIN_TOKEN"


def token_flags(command: Decorated) -> Decorated:
    """Add ``--token-file`` and ``--token``."""
    command = click.option(
        "--token", metavar="T", help="Join token; other users of this machine can see it."
    )(command)
    return click.option(
        "--token-file", metavar="F", help=f"File with the join token, - for standard input; also: {VARIABLE}."
    )(command)


def token_given(token_file: str | None, token: str | None) -> bool:
    """Whether a join token was given without anybody being asked for it."""
    return bool(token_file or token or os.environ.get(VARIABLE))


def token_text(token_file: str | None, token: str | None) -> str:
    """The join token that was given.

    Raises:
        click.UsageError: None was, or two were.
    """
    if token_file and token:
        raise click.UsageError("--token-file and --token exclude each other")
    if token:
        say(
            "warning: a token on the command line is seen by other users of this machine; --token-file is not"
        )
        return token
    if token_file == "-":  # noqa: S105 - standard input, not a secret
        return sys.stdin.readline()
    if token_file:
        try:
            return Path(token_file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"--token-file can't be read: {error}") from None
    if os.environ.get(VARIABLE):
        return os.environ[VARIABLE]
    if sys.stdin.isatty():
        return str(click.prompt("Join token", hide_input=True, err=True))
    raise click.UsageError("a join token is needed: --token-file FILE; make one with: swarmctl token create")
