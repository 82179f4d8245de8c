"""``python -m sidecar.main``, also known as ``swarm-sidecar``: forward requests for models."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sidecar.process.arguments import parse_arguments
from swarmplane import logs
from swarmplane.entry import USAGE, run_to_end, say
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.load import load

PROGRAM = "swarm-sidecar"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the sidecar until it is told to stop. Returns the exit status: 0, 1 failed, 2 usage."""
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = load(given.data_dir, given.overrides)
    except InvalidRequestError as error:
        return say(PROGRAM, error.message, USAGE)
    logs.configure(settings.log.level, settings.log.format)
    from sidecar.process.life import live

    return run_to_end(PROGRAM, live(settings, given))


if __name__ == "__main__":
    sys.exit(run())
