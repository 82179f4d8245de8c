"""Everything that is found out before an engine is started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from sidecar.engines.command import Shape, environment, shape_of
from sidecar.engines.memory import Estimate, estimate
from sidecar.engines.programs import LLAMA_SERVER, Places, Program, find_program, read_flags
from sidecar.engines.references import Reference, resolve
from swarmplane.errors import FailedPreconditionError
from swarmplane.gguf import Facts, parts, read_facts
from swarmplane.settings.schema import EngineSettings

_HELP_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that could be started."""

    program: Program
    model: Path
    """Of a model in parts, the first."""
    facts: Facts
    shape: Shape
    needed: Estimate


async def prepare(reference: Reference, settings: EngineSettings, places: Places) -> Prepared:
    """Find the model's file and a program for it, and size them.

    Raises:
        SwarmError: There is no such file, it is no usable GGUF, or no engine is installed.
    """
    model, facts = await asyncio.to_thread(_described, reference, settings.models_dir)
    program = await asyncio.to_thread(find_program, settings.kind, settings.binary, places)
    if program.kind == LLAMA_SERVER:
        program = replace(program, flags=await _flags(program))
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    shape = shape_of(facts, settings, cores, serial=program.serial)
    return Prepared(program, model, facts, shape, estimate(facts, shape))


def _described(reference: Reference, models_dir: Path | None) -> tuple[Path, Facts]:
    path = resolve(reference, models_dir)
    return parts(path)[0], read_facts(path)


async def _flags(program: Program) -> frozenset[str]:
    """Options that this llama-server knows: they change between versions, and an unknown one ends it."""
    try:
        process = await asyncio.create_subprocess_exec(
            *program.command,
            "--help",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(os.environ),
        )
    except OSError as error:
        raise FailedPreconditionError(f"llama-server can't be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(_HELP_S):
            text, _ = await process.communicate()
    except TimeoutError:
        raise FailedPreconditionError(f"llama-server does not answer --help within {_HELP_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    flags = read_flags(text.decode("utf-8", "replace"))
    if "--api-key-file" not in flags:
        raise FailedPreconditionError("this llama-server is too old (it knows no --api-key-file); update it")
    return flags
