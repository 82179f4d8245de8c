"""Groups whose commands are imported when called, so that ``--help`` stays instant."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from cli.invocation import Everywhere


class LazyGroup(Everywhere, click.Group):
    """A group that knows names and first lines of its commands, not yet the commands.

    Args:
        lazy: By name: ``module:attribute`` and the line that ``--help`` shows.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **more: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **more)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order given: frequent acts first."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and lines, without importing anything."""
        rows = [(name, self._lazy[name][1]) for name in self.list_commands(ctx) if name in self._lazy]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Group(Everywhere, click.Group):
    """The verbs of a noun."""

    command_class = Everywhere
