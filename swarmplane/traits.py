"""What is known of a model's weights: the same wherever a table goes, and changed only with the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

MOST_DIGEST: Final = 128
MOST_WORD: Final = 64
MOST_CAPABILITIES: Final = 16
MOST_TOKENS: Final = 2**31
"""Greater figures make no sense."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Of one model, as a backend tells. Empty and 0 mean unknown."""

    digest: str = ""
    """Of the weights as ``algorithm:hex``."""
    family: str = ""
    """As ``llama``."""
    format: str = ""
    """Of the file, as ``gguf``."""
    parameter_size: str = ""
    """As ``8.0B``."""
    quantization: str = ""
    """As ``Q4_K_M``."""
    size_bytes: int = 0
    capabilities: tuple[str, ...] = ()
    """chat, completion, embedding, vision, tools, audio, insert, thinking…; those not named it lacks."""
    trained_context: int = 0
    """Tokens it was trained for."""
    modified_s: int = 0
    """Unix seconds of the file's last change, for people."""


UNKNOWN_TRAITS: Final = Traits()


def bounded(traits: Traits) -> Traits:
    """``traits`` with what is longer than it can honestly be left out. The same value where all is well."""
    words = (traits.family, traits.format, traits.parameter_size, traits.quantization)
    fine = (
        len(traits.digest) <= MOST_DIGEST
        and all(len(word) <= MOST_WORD for word in (*words, *traits.capabilities))
        and len(traits.capabilities) <= MOST_CAPABILITIES
        and traits.trained_context <= MOST_TOKENS
    )
    if fine:
        return traits
    return replace(
        traits,
        digest=_within(traits.digest, MOST_DIGEST),
        family=_within(traits.family, MOST_WORD),
        format=_within(traits.format, MOST_WORD),
        parameter_size=_within(traits.parameter_size, MOST_WORD),
        quantization=_within(traits.quantization, MOST_WORD),
        capabilities=_short(traits.capabilities),
        trained_context=traits.trained_context if traits.trained_context <= MOST_TOKENS else 0,
    )


def _short(words: tuple[str, ...]) -> tuple[str, ...]:
    """None where they are not believable: a list that was cut would deny what the model can do."""
    fine = len(words) <= MOST_CAPABILITIES and all(len(word) <= MOST_WORD for word in words)
    return words if fine else ()


def _within(text: str, most: int) -> str:
    return text if len(text) <= most else ""
