"""Models that this host is to serve with an engine of its own."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from swarmplane import models
from swarmplane.gguf import parts
from swarmplane.hardware.memory import memory_here

PACKAGES: Final = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp"}


@dataclass(frozen=True, slots=True)
class Engines:
    """What can serve a GGUF file here."""

    wanted: str
    """``engine.kind``, or the path in ``engine.binary``."""
    found: tuple[str, ...]
    needed: bool
    """Models are configured."""


@dataclass(frozen=True, slots=True)
class Memory:
    """This machine's, or this container's, against what its models weigh."""

    total_bytes: int
    weights_bytes: int
    missing: tuple[str, ...]
    """Models that are no files here."""


def _engines(host: ExaminedHost) -> Engines:
    if host.settings is None:
        raise SkippedError("the settings can't be read")
    engine = host.settings.engine
    if engine.binary is not None:
        there = shutil.which(engine.binary) is not None
        return Engines(str(engine.binary), (str(engine.binary),) if there else (), bool(engine.models))
    found = {"llama-server": shutil.which("llama-server")} | {
        kind: importlib.util.find_spec(package) for kind, package in PACKAGES.items()
    }
    kinds = tuple(kind for kind, place in found.items() if place and engine.kind in {"auto", kind})
    return Engines(engine.kind, kinds, bool(engine.models))


def judge_engines(engines: Engines) -> Verdict:
    """Without one, ``--model`` serves nothing; backends go on."""
    if engines.found:
        return good(", ".join(engines.found))
    what = "no engine is" if engines.wanted == "auto" else f"{engines.wanted} is not"
    if not engines.needed:
        raise SkippedError(f"{what} installed, and no model is configured that needs one")
    return bad(
        f"{what} installed",
        "pip install 'swarmplane[engine]', or put llama-server on the PATH",
        severity="error",
    )


def _memory(host: ExaminedHost) -> Memory:
    if host.settings is None:
        raise SkippedError("the settings can't be read")
    engine = host.settings.engine
    if not engine.models:
        raise SkippedError("no model is configured for an engine of this host")
    files = {text: _file(text, engine.models_dir) for text in engine.models}
    weights = sum(
        part.stat().st_size for one in files.values() if one for part in parts(one) if part.is_file()
    )
    missing = tuple(text for text, one in files.items() if one is None)
    return Memory(memory_here().total, weights, missing)


def _file(text: str, models_dir: Path | None) -> Path | None:
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if text in models.names():
        return models.path(text)
    found = models_dir.rglob(f"{text.removesuffix('.gguf')}*.gguf") if models_dir is not None else ()
    return next(iter(found), None)


def judge_memory(memory: Memory) -> Verdict:
    """What does not fit is not started, or pushes everything else to disk."""
    detail = (
        f"models weigh {memory.weights_bytes / 2**30:.1f} GiB "
        f"of {memory.total_bytes / 2**30:.1f} GiB of memory"
    )
    if memory.missing:
        return bad(
            f"no file is found for {', '.join(memory.missing)}",
            "name the file, or its folder: swarmctl up --model FILE.gguf --models-dir DIR",
        )
    if memory.weights_bytes > memory.total_bytes * 0.9:
        return bad(
            detail, "serve fewer or smaller models here (a stronger quantisation), or use another machine"
        )
    return good(detail)


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("models.engine", "an engine is installed", Source(gather=_engines), judge_engines),
    Check("models.memory", "models fit into memory", Source(gather=_memory), judge_memory),
)
