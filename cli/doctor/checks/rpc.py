"""Whether the engine here can take part in models that are split over machines."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from cli.doctor.tools import ask

_SERVER: Final = "llama-server"
_WORKER: Final = "ggml-rpc-server"


@dataclass(frozen=True, slots=True)
class Split:
    """What splitting a model needs."""

    server: str
    """The server that was found; empty: none."""
    takes_workers: bool
    """It knows ``--rpc``."""
    worker: str
    """The program that lends this machine's memory; empty: none."""


def _split(host: ExaminedHost) -> Split:
    if host.settings is None:
        raise SkippedError("the settings can't be read")
    if not host.settings.engine.models:
        raise SkippedError("no model is configured for an engine of this host")
    server = _server(host.settings.engine.binary)
    said = ask(server, "--help") if server else None
    beside = str(Path(server).resolve().parent) if server else None
    worker = (shutil.which(_WORKER, path=beside) if beside else None) or shutil.which(_WORKER) or ""
    return Split(server, said is not None and "--rpc" in said.text, worker)


def _server(binary: Path | None) -> str:
    """As the sidecar finds it: the configured one, on the PATH, beside llama-cpp-python."""
    if binary is not None:
        return shutil.which(binary) or ""
    package = importlib.util.find_spec("llama_cpp")
    beside = Path(package.origin).parent.parent / "bin" if package is not None and package.origin else None
    return shutil.which(_SERVER) or (shutil.which(_SERVER, path=str(beside)) if beside else None) or ""


def judge_split(split: Split) -> Verdict:
    """Models that fit here are served without it."""
    if split.server and split.takes_workers and split.worker:
        return good(f"{split.server} takes workers, and {split.worker} is one")
    lacks = (
        f"{_SERVER} is not installed"
        if not split.server
        else f"{split.server} was built without RPC"
        if not split.takes_workers
        else f"{_WORKER} is not installed"
    )
    return bad(
        f"{lacks}: no model can be split between this machine and others",
        "put llama-server and ggml-rpc-server of one llama.cpp release on the PATH (built with GGML_RPC=ON)",
    )


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("models.rpc", "the engine can split models", Source(gather=_split), judge_split, "info"),
)
