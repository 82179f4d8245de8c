"""``swarmctl completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cli.invocation import Everywhere

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Everywhere)
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print a completion script for SHELL.

    For bash and zsh put `eval "$(swarmctl completion SHELL)"` into its start-up file, for fish
    `swarmctl completion fish | source`.
    """
    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not supported")
    click.echo(kind(root, {}, "swarmctl", "_SWARMCTL_COMPLETE").source())
