"""Programs of the platform that are asked; each is waited for a short time."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import Final

LIMIT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a program said."""

    status: int
    text: str
    """Both outputs, the standard one first."""


def ask(*command: str, limit_s: float = LIMIT_S) -> Said | None:
    """Run ``command`` to its end; None where there is no such program, or it takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - names and flags stand in the code
            [program, *command[1:]],
            capture_output=True,
            timeout=limit_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # wsl.exe and wslinfo speak UTF-16.
    text = b"\n".join((done.stdout, done.stderr)).replace(b"\0", b"")
    return Said(done.returncode, text.decode(errors="replace").strip())
