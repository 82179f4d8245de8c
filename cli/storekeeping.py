"""What is done to a host's own store: by a process of the control plane's, as components never mix."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError, UnavailableError

if TYPE_CHECKING:
    from cli.client.documents import Document

LIMIT_S: Final = 600.0
_MODULE: Final = "controlplane.process.storekeeping"


async def keep(
    data_dir: DataDir, act: str, *arguments: str, file: Path | None = None, key: str = ""
) -> Document:
    """Do ``act`` to the store of ``data_dir``; what was done. ``file`` is absolute.

    Raises:
        FailedPreconditionError: It was refused; in the words of who refused it.
        UnavailableError: It took too long.
    """
    words = [_MODULE, act, "--data-dir", str(data_dir.root), *arguments]
    words += ["--file", str(file)] if file is not None else []
    words += ["--key-stdin"] if key else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            # Not as an argument: those can be read by others on the machine.
            out, err = await process.communicate(f"{key}\n".encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise UnavailableError(f"the store was not done within {LIMIT_S:g} s") from None
    if process.returncode:
        lines = err.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
        raise FailedPreconditionError(lines[-1].partition(": ")[2] or lines[-1])
    found: Document = json.loads(out)
    return found
