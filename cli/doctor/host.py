"""The host that is examined: what its files say, read once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cli.invocation import Invocation

if TYPE_CHECKING:
    from swarmplane.datadir import DataDir
    from swarmplane.identity import NodeRecord
    from swarmplane.runtime import Runtime
    from swarmplane.settings.schema import Settings


_ASK_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class ExaminedHost:
    """Input of every gatherer."""

    called: Invocation
    data_dir: DataDir
    pid: int | None
    """Of ``swarmctl up``; None while nobody holds the data directory."""
    runtime: Runtime | None
    """None while it does not run, or is not ready."""
    record: NodeRecord | None
    """None where it is in no swarm."""
    settings: Settings | None
    """In force where it runs, else those that it would start with; None where they are wrong."""
    settings_problem: str = ""

    def url(self, listener: str) -> str:
        """Of a listener in ``runtime.json``; empty where there is none."""
        return self.runtime.urls.get(listener, "") if self.runtime is not None else ""


def examined(called: Invocation) -> ExaminedHost:
    """Read the files of the host that ``called`` means. It blocks; nothing is written."""
    from cli.client.local import settings_in_force
    from cli.supervise.lock import holder
    from swarmplane.errors import SwarmError
    from swarmplane.identity import read_record
    from swarmplane.runtime import read_runtime
    from swarmplane.settings.load import load_with_origins

    data_dir = called.data_dir
    pid = holder(data_dir)
    settings, problem = None, ""
    try:
        settings = load_with_origins(data_dir.root).settings
    except SwarmError as error:
        problem = error.message
    runtime = read_runtime(data_dir) if pid is not None else None
    if runtime is not None and runtime.urls.get("admin"):
        # What it was started with is stronger than files, and known to it alone.
        with contextlib.suppress(SwarmError):
            settings = settings_in_force(runtime.urls["admin"], timeout_s=_ASK_S)
    return ExaminedHost(called, data_dir, pid, runtime, read_record(data_dir), settings, problem)
