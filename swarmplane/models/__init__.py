"""Tiny real models that ship with the project, made from nothing by ``scripts/make_tiny_gguf.py``.

``tiny-trained-q8`` answers questions about a small made-up world; ``tiny-chain-q8`` gives the same sentence
to any prompt. Both are llama-architecture GGUF files that every llama.cpp build loads.
"""

from __future__ import annotations

from pathlib import Path

from swarmplane.errors import NotFoundError


def names() -> tuple[str, ...]:
    """Names of the models, in order."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.gguf")))


def path(name: str) -> Path:
    """The file of the model called ``name``.

    Raises:
        NotFoundError: No such model ships with the project.
    """
    if name not in names():
        raise NotFoundError(f"no model {name!r} comes with Swarmplane; there are {', '.join(names())}")
    return Path(__file__).parent / f"{name}.gguf"
