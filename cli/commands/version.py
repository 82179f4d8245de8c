"""``swarmctl version``."""

from __future__ import annotations

import click

from cli.invocation import Everywhere
from cli.output import emit


@click.command(cls=Everywhere)
def version() -> None:
    """Show the version of Swarmplane and of Python."""
    import platform
    from importlib import metadata

    try:
        installed = metadata.version("swarmplane")
    except metadata.PackageNotFoundError:
        installed = "unknown"
    document = {
        "version": installed,
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}-{platform.machine().lower()}",
    }
    emit("version", document, f"swarmplane {installed} (Python {document['python']}, {document['platform']})")
