"""Contexts: what a replica holds, what a request needs, and what keeps a loaded model loaded.

A server of kind ``ollama`` loads a model again whenever a request names another context than the one that is
loaded, or names none while another than the default is loaded. A request that would fit into what is loaded
is therefore sent with exactly that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sidecar.core.cost import RESERVED_TOKENS
from swarmplane.routes import Endpoint

RELOADING: Final = "ollama"
"""The kind of server whose models are loaded with the context that a request names."""
MARGIN_SHARE: Final = 4
"""One part in so many of the estimated prompt is left free when an answer is cut to fit: estimates err."""


class Protection(Enum):
    """What is done about a request that would make a server load its model again."""

    STRIP = "strip"
    """It gets the context that is loaded, if that is enough."""
    WARN = "warn"
    """It goes through as it is, and that is written down."""
    PASSTHROUGH = "passthrough"
    """It goes through as it is."""


def protection_of(*words: str) -> Protection:
    """The first of ``words`` that names one; the most special comes first. Default: strip."""
    for word in words:
        if word in _PROTECTIONS:
            return _PROTECTIONS[word]
    return Protection.STRIP


_PROTECTIONS: Final = {one.value: one for one in Protection}


@dataclass(frozen=True, slots=True)
class Sending:
    """What a request is sent with."""

    context: int = 0
    """Put in the place of what it names; 0: it stays as it is."""
    reloads: bool = False
    """Whether the model will be loaded again for it, as far as is known: worth a warning."""


AS_IT_IS: Final = Sending()


def sending(asked: int, resident: int, protection: Protection) -> Sending:
    """How to send a request that names the context ``asked`` to a model that is loaded with ``resident``.

    Args:
        asked: Tokens; 0: it names none.
        resident: Tokens; 0: not loaded, or unknown. Then nothing is changed: whatever is sent is a guess.
        protection: As the policy says.
    """
    if not resident or protection is Protection.PASSTHROUGH or asked == resident:
        return AS_IT_IS
    if protection is Protection.STRIP and asked < resident:
        return Sending(resident)
    # Naming none may be the same as naming what is loaded: only the server knows its default.
    return Sending(reloads=asked > 0)


def holds(endpoint: Endpoint, resident: int, asked: int, protection: Protection) -> int:
    """Tokens that a request which names ``asked`` (0: none) will have at ``endpoint``; 0: unknown.

    ``resident``: what the model is loaded with there; 0: not loaded, or unknown.
    """
    most = endpoint.context_length
    if endpoint.kind != RELOADING:
        return most
    if protection is Protection.STRIP and asked <= resident:
        return resident or most
    if asked:
        return min(asked, most) if most else asked
    return most


def bigger(places: Iterable[tuple[Endpoint, int]], asked: int) -> list[Endpoint]:
    """Of endpoints with the contexts they are loaded with, those that hold ``asked`` without loading again.

    A server that takes no notice of the number that a request names holds what it has.
    """
    return [
        endpoint
        for endpoint, resident in places
        if asked <= (resident if endpoint.kind == RELOADING else endpoint.context_length)
    ]


@dataclass(frozen=True, slots=True)
class Room:
    """What a request asks of a context, in tokens."""

    prompt: int
    """Estimated."""
    answer: int = 0
    """The most it wants to get; 0: not said."""

    @property
    def needed(self) -> int:
        """The prompt, and a short answer at least."""
        return self.prompt + min(self.answer or RESERVED_TOKENS, RESERVED_TOKENS)


def too_long(room: Room, contexts: Iterable[int]) -> int:
    """The greatest of ``contexts``, if none of them holds what is needed; else 0. An unknown one (0) may."""
    most = 0
    for context in contexts:
        if not context or context >= room.needed:
            return 0
        most = max(most, context)
    return most


def lowered(room: Room, context: int) -> int:
    """The most an answer may get so that it fits ``context`` (0: unknown); 0: as it was asked for.

    A part of the estimate is left free on top, for servers refuse what does not fit to the token.
    """
    if not context or room.prompt + room.answer <= context:
        return 0
    left = context - room.prompt - room.prompt // MARGIN_SHARE
    fits = max(left, min(context - room.prompt, RESERVED_TOKENS), 1)
    return fits if fits < room.answer else 0
