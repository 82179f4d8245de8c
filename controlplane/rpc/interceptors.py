"""What happens around every call: errors become statuses; callers are identified and authorized."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from controlplane.rpc.authorization import check_allowed
from controlplane.rpc.caller import CALLER
from controlplane.rpc.wrapping import Handler, wrapped
from controlplane.services.callers import Callers
from controlplane.services.denials import Denials
from controlplane.services.known import FRESHNESS, Freshness
from swarmplane.channels import ERROR_DOMAIN, STALE_KEY, STATUS_DETAILS_KEY
from swarmplane.credentials.certificate import subject_of_names
from swarmplane.credentials.names import Subject
from swarmplane.errors import SwarmError, UnauthenticatedError

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"]
_STATUSES: Final = {status.value[0]: status for status in grpc.StatusCode}
_CHECKED_AS_WRITTEN: Final = frozenset({"/swarmplane.v1.SidecarService/Connect"})
"""What begins with a write that has the node's record, and that it is not denied, for its conditions."""
_NAMES: Final = "x509_subject_alternative_name"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns :class:`SwarmError` into a status with ``google.rpc.ErrorInfo``; anything else is our bug.

    The outermost interceptor: what others raise passes through it.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """See the class."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        return wrapped(handler, lambda context: _answered(method, context)) if handler else None


@asynccontextmanager
async def _answered(method: str, context: Context) -> AsyncIterator[None]:
    try:
        yield
    except SwarmError as error:
        await _abort(context, error)
    except ExceptionGroup as group:
        await _abort(context, _first(group) or _bug(method, group))
    except Exception as error:
        # Raised by abort() itself: the status is on its way.
        if isinstance(error, grpc.aio.AbortError):
            raise
        await _abort(context, _bug(method, error))


def _first(group: ExceptionGroup[Exception]) -> SwarmError | None:
    """The expected error of a group that has nothing else."""
    matched, rest = group.split(SwarmError)
    found: BaseException | None = matched if rest is None else None
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found if isinstance(found, SwarmError) else None


def _bug(method: str, error: BaseException) -> SwarmError:
    log.error("call.crashed", method=method, exc_info=error)
    return SwarmError("something went wrong in the control plane; its log says what")


async def _abort(context: Context, error: SwarmError) -> NoReturn:
    info = error_details_pb2.ErrorInfo(reason=error.code.slug, domain=ERROR_DOMAIN, metadata=error.details)
    detail = any_pb2.Any()
    detail.Pack(info)
    status = status_pb2.Status(code=error.code.grpc_status, message=error.message, details=[detail])
    await context.abort(
        _STATUSES[error.code.grpc_status],
        error.message,
        ((STATUS_DETAILS_KEY, status.SerializeToString()),),
    )


class AuthorizationInterceptor(grpc.aio.ServerInterceptor):
    """Lets in whom the store knows, to what the table allows; ends open streams of whoever is denied."""

    def __init__(self, callers: Callers, denials: Denials) -> None:
        self._callers = callers
        self._denials = denials

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """See the class."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        # A short call was let in before; a node that removes itself gets its answer.
        denials = self._denials if handler.request_streaming or handler.response_streaming else None
        return wrapped(handler, lambda context: self._admitted(method, context, denials))

    @asynccontextmanager
    async def _admitted(self, method: str, context: Context, denials: Denials | None) -> AsyncIterator[None]:
        freshness = Freshness()
        told = FRESHNESS.set(freshness)
        know = self._callers.recall if method in _CHECKED_AS_WRITTEN else self._callers.identify
        caller = await know(subject_of_call(context))
        check_allowed(caller, method)
        reset = CALLER.set(caller)
        try:
            if denials is None:
                yield
            else:
                async with _ended_when_denied(denials, caller.subject):
                    yield
            if freshness.age_s:
                context.set_trailing_metadata(((STALE_KEY, f"{freshness.age_s:.1f}"),))
        finally:
            CALLER.reset(reset)
            FRESHNESS.reset(told)


def subject_of_call(context: Context) -> Subject:
    """Whom the client's certificate names.

    Raises:
        UnauthenticatedError: There is none, or it names nobody.
    """
    found = context.auth_context().get(_NAMES, ())
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in found]
    if not names:
        raise UnauthenticatedError("this call needs a certificate of the swarm")
    return subject_of_names(names)


@asynccontextmanager
async def _ended_when_denied(denials: Denials, subject: Subject) -> AsyncIterator[None]:
    task = asyncio.current_task()
    denied = False

    def end() -> None:
        nonlocal denied
        if not denied and task is not None:
            denied = True
            task.cancel()

    with denials.when_denied(subject.id, end):
        try:
            yield
        except asyncio.CancelledError:
            # As in asyncio.timeout: a cancellation that was ours alone becomes an error, others go on.
            if not denied or task is None or task.uncancel() > 0:
                raise
            raise UnauthenticatedError(
                f"{subject.id} was removed from this swarm; join or log in again with a new token",
                subject=subject.id,
            ) from None
