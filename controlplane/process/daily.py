"""A backup of the embedded store every day, while an instance serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from controlplane.process.founder_files import (
    backup_name,
    backups_directory,
    backups_in,
    make_backup,
    trim_backups,
)
from controlplane.services.authority import SwarmAuthority
from swarmplane.clock import Clock
from swarmplane.datadir import DataDir
from swarmplane.errors import SwarmError
from swarmplane.settings.schema import Settings

DAY_S: Final = 86_400.0
LATE_S: Final = 2 * DAY_S
"""An age at which the newest backup is worth a warning."""
_LOOK_S: Final = 600.0
_SOON_S: Final = 30.0
"""After the start: a swarm that was just founded is not worth a backup yet."""
log = structlog.get_logger(__name__)


class DailyBackups:
    """Makes one when the newest is a day old, and keeps ``keep``. A failure is logged and tried again."""

    def __init__(
        self,
        data_dir: DataDir,
        authority: SwarmAuthority,
        directory: Path | None,
        keep: int,
        *,
        clock: Clock,
        unix_s: Callable[[], float],
    ) -> None:
        self._data_dir = data_dir
        self._authority = authority
        self._directory = backups_directory(data_dir, directory)
        self._keep = keep
        self._clock = clock
        self._unix_s = unix_s
        self._failed = ""

    @classmethod
    def of(
        cls, settings: Settings, data_dir: DataDir, authority: SwarmAuthority, clock: Clock
    ) -> DailyBackups:
        """Out of the settings of a host."""
        policy = settings.control
        return cls(data_dir, authority, policy.backup_dir, policy.backups_kept, clock=clock, unix_s=time.time)

    def runs(self, *, alone: bool) -> tuple[tuple[str, Callable[[], Coroutine[Any, Any, None]]], ...]:
        """Tasks by name: none where the store is not this host's ``alone``."""
        return (("backups", self.run),) if alone else ()

    async def run(self) -> None:
        """Until cancelled."""
        await self._clock.sleep(_SOON_S)
        while True:
            await self.once()
            await self._clock.sleep(_LOOK_S)

    async def once(self) -> None:
        """Make a backup if one is due."""
        try:
            age_s = await asyncio.to_thread(self._age_s)
            if self._keep and (age_s is None or age_s >= DAY_S):
                name = backup_name(self._authority.name, self._unix_s())
                made = await make_backup(self._data_dir, self._directory / name)
                await asyncio.to_thread(trim_backups, self._directory, self._authority.swarm, self._keep)
                log.info("backup.made", path=str(made.path), bytes=made.bytes)
            self._failed = ""
        except (SwarmError, OSError) as error:
            if str(error) != self._failed:
                log.warning("backup.failed", reason=str(error))
            self._failed = str(error)

    async def facts(self) -> Mapping[str, object]:
        """How the store and its backups are, for ``GET /store``."""
        return await asyncio.to_thread(self._facts)

    def _facts(self) -> dict[str, object]:
        path = self._data_dir.store
        found = [one for one in backups_in(self._directory) if one.head.swarm == self._authority.swarm]
        age_s = self._age_s()
        warnings = [f"the last backup failed: {self._failed}"] if self._failed else []
        if self._keep and age_s is not None and age_s > LATE_S:
            warnings.append(f"the newest backup is {age_s / DAY_S:.0f} days old (swarmctl store backup)")
        if not self._keep:
            warnings.append("no daily backups are made (control.backups_kept is 0)")
        return {
            "path": str(path),
            "bytes": sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")),
            "backups": len(found),
            "backup_path": str(found[0].path) if found else "",
            "backup_age_s": round(age_s, 1) if age_s is not None else None,
            "warnings": warnings,
        }

    def _age_s(self) -> float | None:
        """Of the newest backup. One from a clock that ran ahead counts as old: a new one is due."""
        for one in backups_in(self._directory):
            if one.head.swarm == self._authority.swarm:
                age_s = self._unix_s() - one.head.created_at_s
                return age_s if age_s > -DAY_S else DAY_S
        return None
