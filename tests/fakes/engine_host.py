"""A process that does with engines what a sidecar does, to be killed by tests.

``python -m tests.fakes.engine_host DIR MODEL`` prints a JSON line after every change: ``{"state", "pid",
"port"}`` of its engine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from sidecar.backends.registry import BackendRegistry
from sidecar.engines.status import EngineStatus
from sidecar.engines.supervisor import EngineSupervisor
from swarmplane.clock import SystemClock
from swarmplane.datadir import DataDir
from swarmplane.settings.schema import EngineSettings


async def main() -> None:
    """Serve until killed."""
    registry = BackendRegistry()
    settings = EngineSettings(models=(sys.argv[2],))
    supervisor = EngineSupervisor(settings, DataDir(Path(sys.argv[1])), registry, SystemClock())

    def show(statuses: tuple[EngineStatus, ...]) -> None:
        ports = [target.port for target in registry.targets.values()]
        line = {"state": statuses[0].state.value, "pid": statuses[0].pid, "port": ports[0] if ports else 0}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    supervisor.subscribe(show)
    await supervisor.run()


if __name__ == "__main__":
    asyncio.run(main())
