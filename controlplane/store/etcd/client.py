"""Asking etcd: any member that answers, within bounded time, knowing what was done and what may be."""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable
from typing import Final, TypeVar

import grpc

from controlplane.store.etcd.access import EtcdAccess, EtcdTiming
from controlplane.store.etcd.calls import AUTHENTICATE, RANGE, Answer, Call, Message
from controlplane.store.etcd.endpoint import Endpoint, Endpoints, Metadata
from controlplane.store.etcd.failures import (
    NO_LEADER,
    Failure,
    NotConnectedError,
    Refusal,
    RefusedError,
    Verdict,
    judge,
)
from controlplane.store.etcd.keyspace import Keyspace
from controlplane.store.etcd.standing import Standing
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import StoreUnavailableError, UncertainError
from swarmplane.errors import ForbiddenError, UnauthenticatedError

_LOGINS: Final = 3
_LONGEST_ATTEMPT: Final = 4
_LEADER: Final = ("hasleader", "true")

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Answer)


class Effect(enum.Enum):
    """What a second attempt does after a first whose outcome is unknown."""

    READ = "nothing: it changes nothing"
    REPEATABLE = "nothing more than the first"
    ONCE = "it may do it twice, so there is none"


class InDoubtError(Exception):
    """A call that may be made only once was made, and its outcome is unknown."""


class EtcdClient:
    """A connection to each member and what all callers know in common: the token, and who answers."""

    def __init__(
        self, access: EtcdAccess, timing: EtcdTiming, draw: Callable[[], float] = random.random
    ) -> None:
        self.timing = timing
        self.endpoints = Endpoints(access, int(draw() * len(access.endpoints)))
        self.standing = Standing()
        self.closed = False
        self.token = ""
        """Goes with every call; empty where nobody needs to log in."""
        self._draw = draw
        self._nobodys = Keyspace(access.prefix).own(b"")
        self._user = access.user
        self._password = access.password
        self._logging_in = asyncio.Lock()

    @property
    def has_user(self) -> bool:
        """Whether there is somebody to log in as; while that is done, there is no token."""
        return bool(self._user)

    def metadata(self) -> Metadata:
        """What calls and streams carry: a member without a leader must say so instead of waiting."""
        return (_LEADER, ("token", self.token)) if self.token else (_LEADER,)

    def check(self) -> None:
        """Refuse to go on where there is no point.

        Raises:
            StoreUnavailableError: The store is closed.
            StoreReplacedError: It is not the one that was opened.
        """
        if self.closed:
            raise StoreUnavailableError("The store is closed.")
        if (replaced := self.standing.replaced) is not None:
            raise replaced

    async def login(self, rejected: str = "") -> None:
        """Get a token, unless somebody has got one since ``rejected`` was used.

        Raises:
            ForbiddenError: etcd wants a user and none is configured.
            UnauthenticatedError: It does not take this one.
            StoreUnavailableError: It does not answer.
        """
        async with self._logging_in:
            if self.token != rejected:
                return
            if not self._user:
                raise ForbiddenError("etcd wants a user and a password, and none are configured.")
            self.token = ""
            request = pb.AuthenticateRequest(name=self._user, password=self._password)
            try:
                self.token = (await self.ask(AUTHENTICATE, request, Effect.READ)).token
            except RefusedError as error:
                if error.refusal is not Refusal.NO_AUTHENTICATION:
                    raise

    async def revision(self) -> int:
        """The store's revision, as a majority agrees on it.

        Raises:
            StoreUnavailableError: Nobody answered in time.
        """
        # Of a key that nobody can have: a count would walk through all there are.
        request = pb.RangeRequest(key=self._nobodys, keys_only=True)
        return (await self.ask(RANGE, request, Effect.READ, linear=True)).header.revision

    async def ask(
        self,
        call: Call[Q, R],
        request: Q,
        effect: Effect,
        *,
        linear: bool = False,
        ends_s: float | None = None,
    ) -> R:
        """Ask one member after the other until one answers.

        Args:
            call: What to ask.
            request: How.
            effect: Whether it may be asked again after an attempt whose outcome is unknown.
            linear: The answer must not stand before anything that was known when it was asked for.
            ends_s: When to give up, in the loop's time; by default in ``give_up_s``.

        Raises:
            RefusedError: etcd refuses; its ``doubted`` tells whether an earlier attempt may have done it.
            InDoubtError: An ``effect`` of ONCE may have been had.
            StoreUnavailableError: Nobody answered in time, and nothing was done.
            UncertainError: Nobody answered in time; it may be done.
            SwarmError: See :mod:`controlplane.store.etcd.failures`.
        """
        now_s = asyncio.get_running_loop().time
        tries = _Tries(self, effect, now_s() + self.timing.give_up_s if ends_s is None else ends_s)
        while True:
            self.check()
            left_s = tries.ends_s - now_s()
            if left_s <= 0:
                raise tries.given_up()
            endpoint, token = self.endpoints.current, self.token
            known = self.standing.revision if linear else 0
            answer = await self._attempt(endpoint, call, request, min(self.attempt_s(tries.count), left_s))
            if not isinstance(answer, Failure):
                self.endpoints.praise(endpoint)
                self.standing.note(answer.header, at_least=known)
                self.check()
                return answer
            tries.take(answer)
            if answer.verdict is Verdict.LOGIN:
                await self.login(token)
                continue
            self.endpoints.leave(endpoint, answer.reason)
            await self.rest(tries.count)

    def attempt_s(self, count: int) -> float:
        """How long the attempt after ``count`` failed ones may take."""
        return self.timing.attempt_s * min(1 + count // len(self.endpoints), _LONGEST_ATTEMPT)

    async def rest(self, count: int) -> None:
        """Wait after ``count`` failed attempts: not within a round over the members, then ever longer."""
        rounds, within = divmod(count, len(self.endpoints))
        if within == 0:
            longest_s = min(self.timing.backoff_s * 2.0 ** min(rounds, 16), self.timing.max_backoff_s)
            await asyncio.sleep(self._draw() * longest_s)

    async def close(self) -> None:
        """End all calls and connections."""
        self.closed = True
        await self.endpoints.close()

    async def _attempt(
        self, endpoint: Endpoint, call: Call[Q, R], request: Q, timeout_s: float
    ) -> R | Failure:
        try:
            await endpoint.connected(timeout_s)
            return await endpoint.ask(call, request, timeout_s=timeout_s, metadata=self.metadata())
        except NotConnectedError as error:
            return Failure(Verdict.ELSEWHERE, str(error))
        except grpc.aio.AioRpcError as error:
            return judge(error)
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Closing a channel cancels its calls, which looks like a cancelled task.
            task = asyncio.current_task()
            if not self.closed or (task is not None and task.cancelling()):
                raise
            return Failure(Verdict.DOUBT, "the store was closed")


class _Tries:
    """The attempts at one call."""

    def __init__(self, client: EtcdClient, effect: Effect, ends_s: float) -> None:
        self.ends_s = ends_s
        self.count = 0
        self._give_up_s = client.timing.give_up_s
        self._effect = effect
        self._logins = 0
        self._doubted = False
        self._reason = ""

    def take(self, failure: Failure) -> None:
        """One more has failed; raises unless another may be made."""
        self._reason = failure.reason
        match failure.verdict:
            case Verdict.FINAL if failure.error is not None:
                if isinstance(failure.error, RefusedError):
                    failure.error.doubted = self._doubted
                raise failure.error
            case Verdict.LOGIN:
                self._logins += 1
                if self._logins > _LOGINS:
                    raise UnauthenticatedError("etcd does not accept the token that it has just given.")
            case Verdict.DOUBT:
                self.count += 1
                self._doubted = self._effect is not Effect.READ
                if self._effect is Effect.ONCE:
                    raise InDoubtError(failure.reason)
            case _:
                self.count += 1

    def given_up(self) -> StoreUnavailableError | UncertainError:
        """What is raised when the time is over."""
        if self._doubted:
            return UncertainError("etcd did not say whether it was done; read again before writing again.")
        if NO_LEADER in self._reason:
            return StoreUnavailableError("etcd has no leader: a majority of its members must run.")
        return StoreUnavailableError(
            f"etcd did not answer within {self._give_up_s:g} s: "
            "a majority of its members must run and be reachable."
        )
