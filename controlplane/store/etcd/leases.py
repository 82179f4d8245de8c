"""Leases on etcd. All are kept alive over one stream."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import defaultdict, deque

import grpc

from controlplane.store.etcd.calls import GRANT, KEEP_ALIVE, REVOKE, TIME_TO_LIVE
from controlplane.store.etcd.client import Effect, EtcdClient
from controlplane.store.etcd.endpoint import Endpoint
from controlplane.store.etcd.failures import Failure, NotConnectedError, Refusal, RefusedError, Verdict
from controlplane.store.etcd.streams import received, sent
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import LeaseNotFoundError, StoreUnavailableError, UncertainError

_CUT_OFF_S = 0.5
"""etcd names whole seconds, cut off: half of one on top is off by half a second at most."""
_SLICES = 8
"""A wait for an answer is made of so many: each lets the loop take in what came meanwhile."""


class Leases:
    """Grants, ends and looks at leases."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client

    async def grant(self, ttl_s: float) -> int:
        """See :meth:`controlplane.store.port.Store.grant`."""
        # Named by us, so that asking twice makes one.
        lease = secrets.randbits(62) + 1
        request = pb.LeaseGrantRequest(TTL=max(1, math.ceil(ttl_s)), ID=lease)
        try:
            await self._client.ask(GRANT, request, Effect.REPEATABLE)
        except RefusedError as error:
            if error.refusal is not Refusal.LEASE_EXISTS or not error.doubted:
                raise StoreUnavailableError("etcd did not grant a lease; try again.") from error
        return lease

    async def revoke(self, lease: int) -> None:
        """See :meth:`controlplane.store.port.Store.revoke`."""
        try:
            await self._client.ask(REVOKE, pb.LeaseRevokeRequest(ID=lease), Effect.REPEATABLE)
        except RefusedError as error:
            if not error.doubted:
                raise LeaseNotFoundError(lease) from error

    async def remaining_s(self, lease: int) -> float | None:
        """See :meth:`controlplane.store.port.Store.lease_remaining`."""
        request = pb.LeaseTimeToLiveRequest(ID=lease)
        try:
            answer = await self._client.ask(TIME_TO_LIVE, request, Effect.READ)
        except RefusedError:
            return None
        return min(answer.TTL + _CUT_OFF_S, float(answer.grantedTTL)) if answer.TTL >= 0 else None


class KeepAlives:
    """One stream over which all leases are renewed; opened when first needed, anew wherever it is lost.

    Every call sends a request of its own, so that whoever counts from when it called counts from before the
    renewal. etcd answers the requests for a lease in their order.
    """

    def __init__(self, client: EtcdClient) -> None:
        self._client = client
        self._asked: dict[int, deque[asyncio.Future[bool]]] = defaultdict(deque)
        self._unsent: deque[int] = deque()
        self._wanted = asyncio.Event()
        self._stream: grpc.aio.StreamStreamCall[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse] | None
        self._stream = None
        self._heard_s = float("-inf")
        """When the stream last said anything, for any lease, in the loop's time."""

    async def keep_alive(self, lease: int) -> bool:
        """See :meth:`controlplane.store.port.Store.keep_alive`."""
        self._client.check()
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._client.timing.give_up_s
        answered: asyncio.Future[bool] = loop.create_future()
        self._asked[lease].append(answered)
        self._unsent.append(lease)
        self._wanted.set()
        tries = 0
        try:
            while (left_s := ends_s - loop.time()) > 0:
                stream, attempt_s = self._stream, self._client.attempt_s(tries)
                await _patiently(answered, min(attempt_s, left_s))
                self._client.check()
                if answered.done():
                    return answered.result()
                if loop.time() - self._heard_s < attempt_s:
                    # It answers, others first: giving it up would throw away what is on its way to all.
                    continue
                tries += 1
                if stream is not None and stream is self._stream:
                    # Nobody answers on it: it is given up for all, and what was asked is asked elsewhere.
                    stream.cancel()
        finally:
            answered.cancel()
        raise UncertainError("etcd did not say whether the lease was renewed.")

    async def run(self) -> None:
        """Send and receive until cancelled."""
        failures = 0
        while True:
            self._ask_again()
            if not self._unsent:
                self._wanted.clear()
                await self._wanted.wait()
            endpoint = self._client.endpoints.current
            try:
                await endpoint.connected(self._client.attempt_s(failures))
                failures, failure = await self._serve(endpoint, failures)
            except NotConnectedError as error:
                failures, failure = failures + 1, Failure(Verdict.ELSEWHERE, str(error))
            self._client.endpoints.leave(endpoint, failure.reason)
            await self._client.rest(failures)

    def end(self) -> None:
        """Answer nobody any more."""
        for answers in self._asked.values():
            for answered in answers:
                if not answered.done():
                    answered.set_exception(StoreUnavailableError("The store is closed."))

    async def _serve(self, endpoint: Endpoint, failures: int) -> tuple[int, Failure]:
        """Use one stream for as long as it lasts; how often one failed in a row, and why this one."""
        stream = endpoint.stream(KEEP_ALIVE, self._client.metadata())
        self._stream = stream
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send(stream))
                heard, failure = await self._receive(stream)
                sending.cancel()
        finally:
            self._stream = None
            stream.cancel()
        return (1 if heard else failures + 1), failure

    def _ask_again(self) -> None:
        waiting: dict[int, deque[asyncio.Future[bool]]] = defaultdict(deque)
        for lease, answers in self._asked.items():
            if left := [answered for answered in answers if not answered.done()]:
                waiting[lease].extend(left)
        self._asked = waiting
        self._unsent = deque(lease for lease, answers in waiting.items() for _ in answers)

    async def _send(
        self, stream: grpc.aio.StreamStreamCall[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
    ) -> None:
        while True:
            while self._unsent:
                if not await sent(stream, pb.LeaseKeepAliveRequest(ID=self._unsent.popleft())):
                    return
            self._wanted.clear()
            await self._wanted.wait()

    async def _receive(
        self, stream: grpc.aio.StreamStreamCall[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
    ) -> tuple[bool, Failure]:
        heard = False
        while True:
            answer = await received(stream)
            if isinstance(answer, Failure):
                return heard, answer
            heard = True
            self._heard_s = asyncio.get_running_loop().time()
            self._client.standing.note(answer.header)
            if answers := self._asked.get(answer.ID):
                answered = answers.popleft()
                if not answers:
                    del self._asked[answer.ID]
                if not answered.done():
                    answered.set_result(answer.TTL > 0)


async def _patiently(answered: asyncio.Future[bool], timeout_s: float) -> None:
    """Wait until it is answered, ``timeout_s`` at most; longer while this process is too busy to listen.

    A busy loop is late for everything. In one wait the time would be over before the answer, which has long
    come, was looked at; in slices it is looked at in between.
    """
    for _ in range(_SLICES):
        await asyncio.wait({answered}, timeout=timeout_s / _SLICES)
        if answered.done():
            return
