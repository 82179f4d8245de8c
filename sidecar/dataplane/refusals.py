"""Requests that will not be served, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sidecar.core.attempts import Decision
from sidecar.core.backoff import retry_after_s
from sidecar.dataplane.answers import unknown_model
from sidecar.routing.listing import ModelListing
from sidecar.routing.resolution import Resolution
from swarmplane.errors import Code, SwarmError

_ABSENT_RETRY_S: Final = 5.0
_SHOWN: Final = 256
"""Characters of a name that a client gave."""
_STATES: Final[Mapping[Code, str]] = {
    Code.MODEL_LOADING: "loading",
    Code.DRAINING: "draining",
    Code.SATURATED: "saturated",
    Code.NO_REPLICA: "absent",
}


class RefusedError(SwarmError):
    """A request that will not be served, with what its answer says besides the sentence."""

    def __init__(
        self,
        message: str,
        code: Code,
        *,
        retry_after: int = 0,
        eta_s: float | None = None,
        expired: bool = False,
        asked: str = "",
        model: str = "",
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        self.expired = expired
        """Whether the sender's own deadline passed."""
        self.asked = asked
        self.model = model
        """The asked name, and the canonical one where somebody knows it; for telemetry."""
        state = _STATES.get(code)
        self.swarm: Mapping[str, object] | None = {"state": state, "eta_s": eta_s} if state else None


def unready(
    asked: str, resolution: Resolution, known: Sequence[ModelListing], draw: float, left_s: float = 0.0
) -> RefusedError:
    """The refusal of a model that nobody can serve now; ``known`` models are told where nobody knows it.

    ``left_s``: until it is loaded, where that is known.
    """
    code = resolution.code or Code.NO_REPLICA
    shown = asked[:_SHOWN]
    if code is Code.MODEL_NOT_FOUND:
        return RefusedError(unknown_model(asked, [model.name for model in known]), code, asked=asked)
    wait_s = resolution.wait_s or left_s or _ABSENT_RETRY_S
    sentence = _sentence(
        code, asked, f"The model {shown!r} is known, but no node can serve it now; see `swarmctl model list`"
    )
    eta_s = round(resolution.wait_s or left_s, 1) or None
    retry = retry_after_s(wait_s, draw)
    model = resolution.model or ""
    return RefusedError(sentence, code, retry_after=retry, eta_s=eta_s, asked=asked, model=model)


def at_a_provider(asked: str) -> RefusedError:
    """Only providers have the model, and the request must not go there."""
    return RefusedError(
        f"the model {asked[:_SHOWN]!r} is a provider's in the cloud, and this request may not go to one",
        Code.NO_REPLICA,
    )


def elsewhere(asked: str, resolution: Resolution, draw: float) -> RefusedError:
    """The refusal of a request that must stay on this node, for a model that only others serve."""
    sentence = (
        f"The model {asked[:_SHOWN]!r} is on other nodes only, and the request asks to stay on this one; "
        "leave out x-swarm-local-only"
    )
    retry, model = retry_after_s(_ABSENT_RETRY_S, draw), resolution.model or ""
    return RefusedError(sentence, Code.NO_REPLICA, retry_after=retry, asked=asked, model=model)


def not_here(model: str, resolution: Resolution, draw: float, left_s: float = 0.0) -> RefusedError:
    """An owner's refusal to a sender whose table is older than what this node knows."""
    if resolution.code is Code.MODEL_NOT_FOUND:
        return RefusedError(f"this node does not serve {model[:_SHOWN]!r} now", Code.MODEL_NOT_FOUND)
    return unready(model, resolution, (), draw, left_s)


def unpinned(asked: str, pin: str, draw: float) -> RefusedError:
    """The refusal of a request for a node that does not serve the model."""
    sentence = f"node {pin[:_SHOWN]!r} does not serve {asked[:_SHOWN]!r} now"
    return RefusedError(sentence, Code.NO_REPLICA, retry_after=retry_after_s(_ABSENT_RETRY_S, draw))


def exhausted(asked: str, decision: Decision, *, last: str, status: int | None, owner: bool) -> RefusedError:
    """The refusal after every attempt ended; ``last`` was asked last and answered ``status``, or nothing."""
    code = decision.code or Code.UPSTREAM_FAILED
    progress = decision.progress
    nodes = f"{progress.attempts} node{' was' if progress.attempts == 1 else 's were'} tried"
    if code is Code.NO_REPLICA:
        sentence = f"The model {asked[:_SHOWN]!r} is known, but no node could be reached; {nodes}"
    elif code is Code.UPSTREAM_TIMEOUT:
        sentence = f"No answer began in time; {nodes}"
    else:
        ended = f"; the last one, {last}, answered {status}" if status is not None else ""
        sentence = _sentence(code, asked, f"No node could answer; {nodes}{ended}")
    if owner and code is Code.NO_REPLICA and progress.unreachable:
        # An unreachable backend of ours is a mishap to the sender, not the news that the model is gone.
        code = Code.UPSTREAM_FAILED
    eta_s = progress.eta_s or progress.wait_s or None
    return RefusedError(sentence, code, retry_after=decision.retry_after_s, eta_s=eta_s)


def _sentence(code: Code, asked: str, otherwise: str) -> str:
    asked = asked[:_SHOWN]
    return {
        Code.MODEL_LOADING: f"The model {asked!r} is being loaded; try again soon",
        Code.DRAINING: f"Every node that serves {asked!r} is draining; try again soon",
        Code.SATURATED: f"Every node that serves {asked!r} is full; try again soon",
    }.get(code, otherwise)
