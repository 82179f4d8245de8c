"""Reading an instance's settings again, and taking what can change while it runs into use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from swarmplane import logs
from swarmplane.errors import InvalidRequestError, SwarmError
from swarmplane.settings.changes import changed
from swarmplane.settings.schema import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

APPLIED: Final = frozenset({"log.level", "log.format", "control.debounce_s", "control.heartbeat_s"})
"""Keys that a running instance takes into use; a heartbeat's interval holds for streams that begin."""
_SECTIONS: Final = ("control.", "etcd.", "swarm.")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Keys of this process that changed."""

    applied: tuple[str, ...]
    restart_needed: tuple[str, ...]


class Reloader:
    """Reloads on request. It blocks for disk, so it is called in threads; one at a time.

    Args:
        settings: Those in use.
        read: Reads them again.
    """

    def __init__(self, settings: Settings, read: Callable[[], Settings]) -> None:
        self._settings = self._started = settings
        self._read = read
        self._one_at_a_time = threading.Lock()
        self._adopt: Callable[[Settings], None] | None = None

    def subscribe(self, adopt: Callable[[Settings], None]) -> None:
        """Call ``adopt`` with settings that were read; it takes :data:`APPLIED` into use and never waits."""
        self._adopt = adopt

    def reload(self) -> Reloaded:
        """Reload now. A key that needs a restart is named again by every reload until then.

        Raises:
            InvalidRequestError: The settings are wrong; nothing has changed.
        """
        with self._one_at_a_time:
            try:
                settings = self._read()
            except (SwarmError, OSError) as error:
                log.warning("settings.refused", reason=str(error))
                raise InvalidRequestError(str(error)) from error
            found = Reloaded(
                tuple(key for key in changed(self._settings, settings) if key in APPLIED),
                tuple(
                    key
                    for key in changed(self._started, settings)
                    if key.startswith(_SECTIONS) and key not in APPLIED
                ),
            )
            logs.configure(settings.log.level, settings.log.format)
            if self._adopt is not None:
                self._adopt(settings)
            self._settings = settings
        log.info("settings.reloaded", applied=found.applied, restart_needed=found.restart_needed)
        return found

    def hung_up(self) -> None:
        """As :meth:`reload`, for a signal: settings that are wrong were written down."""
        try:
            self.reload()
        except InvalidRequestError:
            return
