"""What was said on the command line beside the command itself: the same everywhere, before or after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from swarmplane.datadir import DataDir


@dataclass(slots=True)
class Invocation:
    """One call of ``swarmctl``."""

    as_json: bool = False
    context: str = field(default_factory=lambda: os.environ.get("SWARMPLANE_CONTEXT", ""))
    named_data_dir: Path | None = None
    verbose: bool = False

    @property
    def data_dir(self) -> DataDir:
        """The data directory asked for, else the platform's."""
        if self.named_data_dir is not None:
            return DataDir(self.named_data_dir)
        from swarmplane.settings.directories import default_data_dir

        return DataDir(default_data_dir())

    def flags(self) -> tuple[str, ...]:
        """Flags that lead another ``swarmctl`` to the same host, for lines that people copy."""
        if self.named_data_dir is None:
            return ()
        return ("--data-dir", str(self.named_data_dir))


def invocation() -> Invocation:
    """Of the command that runs now."""
    return click.get_current_context().ensure_object(Invocation)


class Everywhere(click.Command):
    """A command, or group of them, that takes the options every command takes."""

    def __init__(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401 - as click has it
        super().__init__(*arguments, **more)
        self.params.extend(_everywhere())


def _everywhere() -> list[click.Parameter]:
    def remember(name: str, of: Callable[[Any], object] = lambda value: value) -> Any:  # noqa: ANN401
        def callback(ctx: click.Context, _: click.Parameter, value: object) -> None:
            if value not in {None, False}:
                setattr(ctx.ensure_object(Invocation), name, of(value))

        return callback

    def option(*names: str, callback: Any, **more: Any) -> click.Option:  # noqa: ANN401
        return click.Option(list(names), expose_value=False, callback=callback, **more)

    return [
        option("--json", is_flag=True, callback=remember("as_json"), help="Print one JSON document."),
        option(
            "-o", "--output", type=click.Choice(["text", "json"]), help="How to print data.",
            callback=remember("as_json", lambda value: value == "json"),
        ),
        option("--context", metavar="NAME", callback=remember("context"), help="Credential to act with."),
        option(
            "--data-dir", type=click.Path(file_okay=False), metavar="DIR", help="Data directory of the host.",
            callback=remember("named_data_dir", lambda value: Path(value).expanduser().absolute()),
        ),
        option("-v", "--verbose", is_flag=True, callback=remember("verbose"), help="Say more."),
    ]  # fmt: skip
