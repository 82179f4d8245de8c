"""What etcd's errors mean: done, not done, or unknown, which is all that is not known to be harmless."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc

from controlplane.store.port import FutureRevisionError, StoreUnavailableError
from swarmplane.errors import Code, ForbiddenError, InvalidRequestError, SwarmError, UnauthenticatedError


class Verdict(enum.Enum):
    """What to do after a failed attempt."""

    ELSEWHERE = "nothing was done; another member may do it"
    DOUBT = "it may be done"
    LOGIN = "nothing was done; the token is not accepted any longer"
    FINAL = "nothing was done, and nobody will do it"


class Refusal(enum.Enum):
    """Answers that only the caller of a call can make sense of."""

    COMPACTED = "the revision is forgotten"
    NO_LEASE = "there is no such lease"
    LEASE_EXISTS = "there is such a lease already"
    ANSWER_TOO_LARGE = "the answer would be too large"
    NO_AUTHENTICATION = "nobody needs to log in"


class RefusedError(Exception):
    """etcd answered with a refusal; nothing was done, unless by an attempt before, where ``doubted``."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
        self.doubted = False


class NotConnectedError(Exception):
    """There is no connection to the member, so nothing was sent."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt. ``error`` is what a FINAL one raises; ``reason`` names addresses, for the log."""

    verdict: Verdict
    reason: str
    error: SwarmError | RefusedError | None = None


_ELSEWHERE: Final = frozenset(
    {
        "etcdserver: no leader",
        "etcdserver: not capable",
        "etcdserver: rpc not supported for learner",
        "etcdserver: too many requests",
    }
)
"""Said before anything is proposed. A time-out, a lost leader, a stopped server may all come after that."""
_LOGIN: Final = frozenset(
    {
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        "etcdserver: user name is empty",
    }
)
NO_LEADER: Final = "etcdserver: no leader"


def judge(error: grpc.aio.AioRpcError) -> Failure:
    """What a failed call tells."""
    status, text = error.code(), error.details() or ""
    reason = f"{status.name}: {text}"
    if text in _ELSEWHERE:
        return Failure(Verdict.ELSEWHERE, reason)
    if text in _LOGIN or status is grpc.StatusCode.UNAUTHENTICATED:
        return Failure(Verdict.LOGIN, reason)
    final = _final(status, text)
    if final is not None:
        return Failure(Verdict.FINAL, reason, final)
    return Failure(Verdict.DOUBT, reason)


def _final(status: grpc.StatusCode, text: str) -> SwarmError | RefusedError | None:
    for row_status, fragment, make in _FINAL:
        if status is row_status and fragment in text:
            return make(text)
    return None


def _refused(refusal: Refusal) -> Callable[[str], RefusedError]:
    return lambda _: RefusedError(refusal)


def _unusable(sentence: str) -> Callable[[str], StoreUnavailableError]:
    return lambda _: StoreUnavailableError(sentence)


def _invalid(text: str) -> InvalidRequestError:
    large = "too large" in text or "too many operations" in text
    code = Code.REQUEST_TOO_LARGE if large else Code.INVALID_REQUEST
    plain = text.removeprefix("etcdserver: ")
    return InvalidRequestError(f"etcd refuses the request: {plain}.", code=code)


_Status = grpc.StatusCode
_FINAL: Final[tuple[tuple[grpc.StatusCode, str, Callable[[str], SwarmError | RefusedError]], ...]] = (
    (_Status.OUT_OF_RANGE, "compacted", _refused(Refusal.COMPACTED)),
    (
        _Status.OUT_OF_RANGE,
        "future revision",
        lambda _: FutureRevisionError("etcd has no such revision yet."),
    ),
    (_Status.NOT_FOUND, "lease not found", _refused(Refusal.NO_LEASE)),
    (_Status.FAILED_PRECONDITION, "lease already exists", _refused(Refusal.LEASE_EXISTS)),
    (_Status.FAILED_PRECONDITION, "authentication is not enabled", _refused(Refusal.NO_AUTHENTICATION)),
    (
        _Status.INVALID_ARGUMENT,
        "authentication failed",
        lambda _: UnauthenticatedError("etcd does not know the user, or the password is another."),
    ),
    (_Status.INVALID_ARGUMENT, "", _invalid),
    (
        _Status.PERMISSION_DENIED,
        "",
        lambda _: ForbiddenError("etcd's user may not read and write below the prefix; give its role that."),
    ),
    (
        _Status.RESOURCE_EXHAUSTED,
        "space exceeded",
        _unusable("etcd's space is used up: compact and defragment it, then disarm the alarm."),
    ),
    (_Status.RESOURCE_EXHAUSTED, "larger than max", _refused(Refusal.ANSWER_TOO_LARGE)),
    (_Status.DATA_LOSS, "", _unusable("etcd found its data damaged and has stopped serving it.")),
    (_Status.UNIMPLEMENTED, "", _unusable("What answers at etcd's endpoint does not speak etcd's v3 API.")),
)


def refusal_of_watch(reason: str) -> Failure:
    """What the reason means with which etcd ended a watch."""
    plain = reason.rpartition("desc = ")[2]
    if plain in _LOGIN:
        return Failure(Verdict.LOGIN, plain)
    if "permission denied" in plain:
        # Old servers say so of an outdated token too.
        error = ForbiddenError("etcd's user may not read below the prefix; give its role that.")
        return Failure(Verdict.FINAL, plain, error)
    return Failure(Verdict.ELSEWHERE, plain or "the watch was ended")
