"""The doctor's rows for the admin listener: ``swarmctl doctor`` in a process of its own.

Its gatherers block and its imports are many; neither has a place in the process of the request path.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, Final

from swarmplane.clock import Clock
from swarmplane.errors import UnavailableError

LIMIT_S: Final = 20.0
KEPT_S: Final = 10.0
"""Whoever asks again so soon gets the same answer: each examination is a process."""
_COMMAND: Final = ("-m", "cli.main", "doctor", "--json")


class Examination:
    """Runs the command when somebody asks, one at a time.

    Args:
        data_dir: Of the host.
        clock: Of the loop.
        command: What is run, with ``--data-dir`` added.
    """

    def __init__(
        self, data_dir: Path, clock: Clock, command: tuple[str, ...] = (sys.executable, *_COMMAND)
    ) -> None:
        self._command = (*command, "--data-dir", str(data_dir))
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._found: Mapping[str, Any] = {}
        self._found_s = -inf

    async def __call__(self) -> Mapping[str, Any]:
        """What the doctor finds, at most 10 s old.

        Raises:
            UnavailableError: It did not end within 20 s, or said nothing that can be read.
        """
        async with self._one_at_a_time:
            if self._clock.now_s() - self._found_s > KEPT_S:
                self._found = await asyncio.to_thread(self._run)
                self._found_s = self._clock.now_s()
            return self._found

    def _run(self) -> Mapping[str, Any]:
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                self._command,
                capture_output=True,
                timeout=LIMIT_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            found = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"the examination did not end within {LIMIT_S:g} s") from None
        except (OSError, ValueError):
            raise UnavailableError("the examination failed; try swarmctl doctor") from None
        if not isinstance(found, dict) or not isinstance(found.get("items"), list):
            raise UnavailableError("the examination failed; try swarmctl doctor")
        return found
