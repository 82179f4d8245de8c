"""What an upstream's answer means for the attempt: the client's, a move, or a failure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Refusal(Enum):
    """Values of ``x-swarm-refusal`` (PROTOCOL section 4)."""

    GONE = "gone"
    FULL = "full"
    DRAINING = "draining"
    LOADING = "loading"
    STALE_EPOCH = "stale_epoch"
    EXPIRED = "expired"
    OTHER = ""
    """One that a newer owner knows and this version does not."""

    @classmethod
    def of(cls, text: str) -> Refusal:
        """The refusal named ``text``; OTHER for a name this version does not know."""
        return next((refusal for refusal in cls if refusal.value == text), cls.OTHER)

    @property
    def http_status(self) -> int:
        """Status that carries it on the hop."""
        return _STATUS[self]


_STATUS: Final = {
    Refusal.GONE: 421,
    Refusal.FULL: 429,
    Refusal.DRAINING: 503,
    Refusal.LOADING: 503,
    Refusal.STALE_EPOCH: 421,
    Refusal.EXPIRED: 503,
    Refusal.OTHER: 503,
}


class Hint(Enum):
    """What the shell read in the body of an error answer; see :func:`hint_of`."""

    NONE = auto()
    MISSING_MODEL = auto()
    LOADING = auto()
    BUSY = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """Head of an answer, and what its body hints at."""

    status: int
    refusal: str | None = None
    """``x-swarm-refusal``, from a peer only; None where the header is absent."""
    retry_after_s: float = 0.0
    """``Retry-After`` in seconds; 0: none."""
    hint: Hint = Hint.NONE


class Verdict(Enum):
    """What an answer means."""

    RELAY = auto()
    """It is the client's."""
    FULL = auto()
    LOADING = auto()
    DRAINING = auto()
    GONE = auto()
    """The model is not there."""
    EXPIRED = auto()
    """The request's own deadline passed."""
    FAILURE = auto()


_REFUSED: Final = {
    Refusal.GONE: Verdict.GONE,
    Refusal.STALE_EPOCH: Verdict.GONE,
    Refusal.FULL: Verdict.FULL,
    Refusal.DRAINING: Verdict.DRAINING,
    Refusal.LOADING: Verdict.LOADING,
    Refusal.EXPIRED: Verdict.EXPIRED,
    Refusal.OTHER: Verdict.DRAINING,
}
_FAILURES: Final = frozenset({500, 502, 503, 504})
"""Other statuses above 500 state a property of the server (501 not implemented), not a mishap."""


def judge(answer: Answer) -> tuple[Verdict, Refusal | None]:
    """What ``answer`` means, and the owner's refusal if it is one.

    A backend's 4xx are the client's, but for two: 429 is a full backend, and a 404 whose body names the model
    means that the backend lost a model it had listed. Other 404s (a path it does not serve) are relayed.
    """
    if answer.refusal is not None:
        refusal = Refusal.of(answer.refusal)
        return _REFUSED[refusal], refusal
    status, hint = answer.status, answer.hint
    if status == 429:  # noqa: PLR2004
        return Verdict.FULL, None
    if status == 404 and hint is Hint.MISSING_MODEL:  # noqa: PLR2004
        return Verdict.GONE, None
    if status == 503 and hint is Hint.LOADING:  # noqa: PLR2004
        return Verdict.LOADING, None
    if status == 503 and (answer.retry_after_s > 0 or hint is Hint.BUSY):  # noqa: PLR2004
        return Verdict.FULL, None
    return (Verdict.FAILURE if status in _FAILURES else Verdict.RELAY), None


def needs_hint(status: int) -> bool:
    """Whether :func:`judge` reads the body of an answer with ``status``: collect a little of it first."""
    return status in {404, 503}


def hint_of(status: int, body: bytes, model: str) -> Hint:
    """Read the start of an error ``body`` of a backend that was asked for ``model``.

    Known phrases: vLLM "The model `x` does not exist", Ollama 'model "x" not found' and "server busy",
    llama.cpp "Loading model".
    """
    text = body[:4096].decode("utf-8", "replace").casefold()
    if status == 404:  # noqa: PLR2004
        named = model.casefold() in text and "model" in text.replace(model.casefold(), "")
        return Hint.MISSING_MODEL if named else Hint.NONE
    if "loading model" in text or "model is loading" in text:
        return Hint.LOADING
    return Hint.BUSY if "server busy" in text else Hint.NONE
