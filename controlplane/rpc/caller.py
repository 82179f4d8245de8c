"""Who makes the call that runs now."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from controlplane.services.callers import Caller
from swarmplane.errors import UnauthenticatedError

CALLER: Final[ContextVar[Caller | None]] = ContextVar("caller", default=None)
"""Set by the authorization interceptor for the length of a call."""


def caller() -> Caller:
    """Who calls.

    Raises:
        UnauthenticatedError: Outside of a call that was authorized.
    """
    found = CALLER.get()
    if found is None:
        raise UnauthenticatedError("this call needs a certificate of the swarm")
    return found
