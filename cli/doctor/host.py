"""The host that is examined: what its files say, read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli.invocation import Invocation

if TYPE_CHECKING:
    from swarmplane.datadir import DataDir
    from swarmplane.identity import NodeRecord
    from swarmplane.runtime import Runtime
    from swarmplane.settings.schema import Settings


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
    """None where they are wrong."""
    settings_problem: str = ""

    def url(self, listener: str) -> str:
        """Of a listener in ``runtime.json``; empty where there is none."""
        return self.runtime.urls.get(listener, "") if self.runtime is not None else ""


def examined(called: Invocation) -> ExaminedHost:
    """Read the files of the host that ``called`` means. It blocks; nothing is written."""
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
    return ExaminedHost(
        called,
        data_dir,
        pid,
        read_runtime(data_dir) if pid is not None else None,
        read_record(data_dir),
        settings,
        problem,
    )
