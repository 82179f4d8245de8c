"""``python -m sidecar.process.probing``: what ``swarmctl backend`` asks where no sidecar runs.

Prints one JSON document on stdout and ends: what is known of the backends of a data directory, or of one URL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sidecar.admin.backends import backend_items, item_of
from sidecar.backends.poller import Poller
from sidecar.backends.probe import Prober, client_session, told_at
from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from sidecar.core.identify import WELL_KNOWN
from sidecar.process.searching import Searching
from swarmplane import logs
from swarmplane.clock import SystemClock
from swarmplane.errors import SwarmError
from swarmplane.settings.backend import BackendSettings
from swarmplane.settings.load import load
from swarmplane.settings.schema import Settings

PATIENCE_S: Final = 8.0
"""Longest wait for all of them: one connection and one answer may take 7."""


async def looked_at(spec: BackendSpec) -> Mapping[str, Any]:
    """One look at ``spec``; ``node`` is what a node of a swarm tells of itself, else null."""
    async with client_session() as session:
        poller = Poller(spec, lambda: None)
        await poller.look(Prober(session))
        return {**item_of(poller), "node": await told_at(session, spec.url + WELL_KNOWN)}


async def looked_around(settings: Settings) -> Sequence[Mapping[str, Any]]:
    """One look at every backend of ``settings``, and at all that are found."""
    registry = BackendRegistry()
    registry.limit_models(settings.upstream.max_models)
    searching = Searching(settings, registry, SystemClock(), ())
    for backend in settings.backends:
        registry.add(BackendSpec.from_settings(backend))
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(registry.run()), group.create_task(searching.finder.run())]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await searching.finder.settle()
        except TimeoutError:
            print("not all of them answered in time", file=sys.stderr)  # noqa: T201 - a program's words
        for task in running:
            task.cancel()
    return backend_items(registry)


def run(arguments: Sequence[str] | None = None) -> int:
    """Print what was found; 1 where it can't be looked at."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.process.probing", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--url", default="", help="look at this one alone")
    parser.add_argument("--entry", default="", help="look at what this table of settings, in JSON, describes")
    parser.add_argument("--name", default="")
    parser.add_argument("--key-file", type=Path, default=None)
    given = parser.parse_args(arguments)
    logs.configure("error", "text")
    try:
        if given.entry:
            entry = BackendSettings.model_validate_json(given.entry)
            found: Any = [asyncio.run(looked_at(BackendSpec.from_settings(entry)))]
        elif given.url:
            spec = BackendSpec.from_url(given.url, name=given.name, key_file=given.key_file)
            found = [asyncio.run(looked_at(spec))]
        else:
            found = asyncio.run(looked_around(load(given.data_dir)))
    except SwarmError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a program's words
        return 1
    print(json.dumps({"items": list(found)}))  # noqa: T201 - a program's answer
    return 0


if __name__ == "__main__":
    sys.exit(run())
