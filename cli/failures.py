"""What is said, and which status is returned, when a command fails."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Final

from cli.output import say
from swarmplane.errors import Code, FailedPreconditionError, SwarmError, reason_of

# gRPC's ABORTED, RESOURCE_EXHAUSTED and UNAVAILABLE: the same command may succeed later.
_TRY_AGAIN: Final = frozenset({8, 10, 14})
TRY_AGAIN_STATUS: Final = 75
FAILED_STATUS: Final = 1
USAGE_STATUS: Final = 2


def exit_status(code: Code) -> int:
    """Of a command that failed with ``code``."""
    if code is Code.INVALID_REQUEST:
        return USAGE_STATUS
    return TRY_AGAIN_STATUS if code.grpc_status in _TRY_AGAIN else FAILED_STATUS


def report(error: BaseException, *, verbose: bool = False) -> int:
    """Say what failed, on stderr; the exit status.

    Raises:
        BaseException: Something in ``error`` is not ours, so it is a defect and goes on up.
    """
    errors = list(_leaves(error))
    known = [_refused(one) if isinstance(one, OSError) else one for one in errors]
    ours = [one for one in known if isinstance(one, SwarmError)]
    if len(ours) < len(errors) or not ours:
        raise error
    if verbose:
        say("".join(traceback.format_exception(error)))
    for one in ours:
        say(f"error: {one.message}")
    if any(one.code is Code.FORBIDDEN and "swarmctl token create" not in one.message for one in ours):
        say("someone with the role admin can help: swarmctl token create --role operator")
        say("then here: swarmctl login ADDRESS --token-file FILE")
    return max(exit_status(one.code) for one in ours)


def _refused(error: OSError) -> SwarmError:
    """A full disk, a missing right: the system's own words, not a traceback."""
    where = f"{error.filename}: " if error.filename else ""
    return FailedPreconditionError(f"{where}{reason_of(error)}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
