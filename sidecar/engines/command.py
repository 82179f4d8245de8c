"""The command line and environment of an engine. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.engines.programs import LLAMA_CPP_PYTHON, XLLAMACPP, Program
from swarmplane.gguf import Facts
from swarmplane.settings.schema import EngineSettings

DEFAULT_CONTEXT: Final = 8_192
_UNKNOWN_CONTEXT: Final = 4_096
_TINY_BYTES: Final = 64 * 1024 * 1024
_UBATCH: Final = 512
_EMBEDDING_UBATCH: Final = 2_048
"""An embedding model computes a whole text at once, so this bounds the text."""
_ALL_LAYERS: Final = 999
_DROPPED: Final = ("LLAMA_ARG_", "LLAMA_API_KEY", "SWARMPLANE_")
"""Environment that would change what we asked for, or that is nobody else's business."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a model is served."""

    context: int
    """Tokens of one slot."""
    slots: int
    threads: int
    gpu_layers: int
    """-1: all that fit."""
    ubatch: int
    """Tokens computed at once."""
    mean_pooling: bool
    """Whether embeddings are the mean over a text: for models that name no pooling of their own."""


def shape_of(facts: Facts, settings: EngineSettings, cores: int, *, serial: bool = False) -> Shape:
    """Serve ``facts`` as ``settings`` ask, within what the model was trained for."""
    trained = facts.context_length
    context = settings.context_length or min(trained or _UNKNOWN_CONTEXT, DEFAULT_CONTEXT)
    context = min(context, trained) if trained else context
    # A thread more costs a tiny model more in waiting for each other than it computes (measured: 1,300 tokens
    # a second with one thread, at worst 2 with two on a busy machine).
    threads = settings.threads or (1 if facts.weights_bytes < _TINY_BYTES else max(cores, 1))
    return Shape(
        context=context,
        slots=1 if serial else settings.slots,
        threads=threads,
        gpu_layers=settings.gpu_layers,
        ubatch=min(_EMBEDDING_UBATCH, max(context, 1)) if facts.embedding_only else _UBATCH,
        mean_pooling=not facts.embedding_only,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """What one start of an engine is given."""

    model: Path
    alias: str
    port: int
    key_file: Path


def command_line(program: Program, shape: Shape, place: Place) -> tuple[str, ...]:
    """Program and arguments; it listens on 127.0.0.1 only."""
    if program.kind == XLLAMACPP:
        return (*program.command, *_xllamacpp(shape, place))
    if program.kind == LLAMA_CPP_PYTHON:
        return (*program.command, *_llama_cpp_python(shape, place))
    return (*program.command, *_llama_server(program.flags, shape, place))


def _xllamacpp(shape: Shape, place: Place) -> tuple[str, ...]:
    return (
        f"--model={place.model}",
        f"--alias={place.alias}",
        f"--port={place.port}",
        f"--context={shape.context * shape.slots}",
        f"--slots={shape.slots}",
        f"--threads={shape.threads}",
        f"--gpu-layers={shape.gpu_layers}",
        f"--ubatch={shape.ubatch}",
        f"--pooling={'mean' if shape.mean_pooling else 'model'}",
        f"--key-file={place.key_file}",
    )


def _llama_server(flags: frozenset[str], shape: Shape, place: Place) -> tuple[str, ...]:
    """Only options that every version has, and of the others those that this one lists."""
    required = (
        *("--host", "127.0.0.1", "--port", str(place.port)),
        *("--model", str(place.model), "--alias", place.alias),
        *("--ctx-size", str(shape.context * shape.slots), "--parallel", str(shape.slots)),
        *("--threads", str(shape.threads), "--ubatch-size", str(shape.ubatch)),
        *("--api-key-file", str(place.key_file), "--metrics"),
    )
    optional: list[tuple[str, ...]] = [("--slots",), ("--offline",), ("--cache-ram", "0")]
    optional.append(("--no-ui",) if "--no-ui" in flags else ("--no-webui",))
    # Versions from before --cache-ram answer nothing but embeddings once these are on.
    if "--cache-ram" in flags or not shape.mean_pooling:
        optional.append(("--embeddings",))
        optional += [("--pooling", "mean")] if shape.mean_pooling else []
    if shape.gpu_layers >= 0:
        optional.append(("--gpu-layers", str(shape.gpu_layers)))
    elif "--fit" not in flags:  # versions that can't fit them by themselves offload none unless told
        optional.append(("--gpu-layers", str(_ALL_LAYERS)))
    chosen = (one for one in optional if one[0] in flags)
    return (*required, *(word for option in chosen for word in option))


def _llama_cpp_python(shape: Shape, place: Place) -> tuple[str, ...]:
    # Without --interrupt_requests false, a new request cuts off the one that runs.
    return (
        *("--host", "127.0.0.1", "--port", str(place.port), "--interrupt_requests", "false"),
        *("--model", str(place.model), "--model_alias", place.alias),
        *("--n_ctx", str(shape.context), "--n_threads", str(shape.threads)),
        *("--n_gpu_layers", str(shape.gpu_layers)),
        *(() if shape.mean_pooling else ("--embedding", "true")),
    )


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment."""
    kept = {name: value for name, value in inherited.items() if not name.upper().startswith(_DROPPED)}
    # An abort would first run a debugger if one is installed; idle OpenMP threads would spin.
    return {**kept, "GGML_NO_BACKTRACE": "1", "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}
