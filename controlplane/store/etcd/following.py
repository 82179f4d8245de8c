"""Filling a watch from whichever member answers."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc

from controlplane.store.etcd.batches import Batcher
from controlplane.store.etcd.calls import WATCH
from controlplane.store.etcd.client import EtcdClient
from controlplane.store.etcd.endpoint import Endpoint
from controlplane.store.etcd.failures import Failure, NotConnectedError, Verdict, judge, refusal_of_watch
from controlplane.store.etcd.streams import received, sent
from controlplane.store.etcd.versions import Habits
from controlplane.store.etcd.watches import Watch
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import CompactedError, StoreReplacedError, StoreUnavailableError
from swarmplane.errors import ForbiddenError, SwarmError

_LONGEST_SILENCE_S: Final = 30.0
"""Some servers do not answer for a watch that has seen nothing yet (etcd issue 17507)."""
_HOW_FAR: Final = pb.WatchRequest(progress_request=pb.WatchProgressRequest())

WatchStream = grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]


_MOST_DENIALS: Final = 3
"""In a row, with a new login between two, before a user is believed to have no right."""


class Follower:
    """Keeps one watch filled until it is cancelled, or has to end."""

    def __init__(self, client: EtcdClient, watch: Watch, bounds: tuple[bytes, bytes], start: int) -> None:
        self._client = client
        self._watch = watch
        self._first, self._end = bounds
        self._batcher = Batcher(start)
        self._heard_s = asyncio.get_running_loop().time()
        self._watch_id = -1
        self._following = False
        self.begun = asyncio.Event()
        """Some member follows, or nobody ever will."""

    async def run(self) -> None:
        """Follow; what ends the watch is raised to its reader."""
        try:
            await self._follow()
        except SwarmError as error:
            self._watch.end(error)
        finally:
            self.begun.set()

    async def _follow(self) -> None:
        client, tries, denials = self._client, 0, 0
        warned_s = self._heard_s
        while True:
            client.check()
            endpoint, token = client.endpoints.current, client.token
            failure = await self._follow_at(endpoint, tries)
            tries = 1 if self._following else tries + 1
            denials = 0 if self._following else denials
            if failure.verdict is Verdict.FINAL and failure.error is not None:
                # Old servers take a token that ran out for one that may not, a member that has just begun may
                # refuse a new one, too, and while another call logs in there is none: only repetition tells.
                denials += 1
                again = isinstance(failure.error, ForbiddenError) and client.has_user
                if not again or denials > _MOST_DENIALS:
                    raise failure.error
            if denials or failure.verdict is Verdict.LOGIN:
                await self._login(token)
            else:
                client.endpoints.leave(endpoint, failure.reason)
            now_s = asyncio.get_running_loop().time()
            if now_s > max(self._heard_s, warned_s) + client.timing.lost_s:
                warned_s = now_s
                self._watch.warn(StoreUnavailableError("etcd is out of reach: what is watched may be old."))
            await client.rest(tries)

    async def _login(self, token: str) -> None:
        try:
            await self._client.login(token)
        except StoreUnavailableError:
            self._client.check()

    async def _follow_at(self, endpoint: Endpoint, tries: int) -> Failure:
        """Follow over one stream until it is lost; why it was."""
        self._following = False
        timeout_s = self._client.attempt_s(tries)
        try:
            await endpoint.connected(timeout_s)
        except NotConnectedError as error:
            return Failure(Verdict.ELSEWHERE, str(error))
        habits = await self._habits(endpoint, timeout_s)
        if isinstance(habits, Failure):
            return habits
        stream = endpoint.stream(WATCH, self._client.metadata())
        try:
            async with asyncio.TaskGroup() as group:
                probing = group.create_task(self._probe(endpoint, stream))
                failure = await self._receive(endpoint, stream, habits)
                probing.cancel()
        finally:
            stream.cancel()
        return failure

    async def _habits(self, endpoint: Endpoint, timeout_s: float) -> Habits | Failure:
        try:
            return Habits.of((await endpoint.status(timeout_s, self._client.token)).version)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return Habits.of_secretive()
            failure = judge(error)
            login = failure.verdict is Verdict.LOGIN
            return Failure(Verdict.LOGIN if login else Verdict.ELSEWHERE, failure.reason)

    async def _receive(self, endpoint: Endpoint, stream: WatchStream, habits: Habits) -> Failure:
        batcher, watch = self._batcher, self._watch
        batcher.begin()
        await sent(stream, self._create(habits))
        while True:
            await watch.room()
            answer = await received(stream)
            if isinstance(answer, Failure):
                return answer
            self._heard_s = asyncio.get_running_loop().time()
            self._client.standing.note(answer.header)
            if answer.canceled:
                return _ended(answer, habits)
            if answer.created:
                if (failure := await self._begun(answer)) is not None:
                    return failure
                self._client.endpoints.praise(endpoint)
            elif answer.events:
                for revision, events in batcher.feed(answer.events, more=answer.fragment):
                    watch.add(revision, events)
            else:
                if habits.ordered_progress or answer.watch_id == self._watch_id:
                    batcher.advance(answer.header.revision)
                watch.mark(batcher.next - 1)

    def _create(self, habits: Habits) -> pb.WatchRequest:
        start = self._batcher.next if habits.keeps_deletions else max(1, self._batcher.next - 1)
        return pb.WatchRequest(
            create_request=pb.WatchCreateRequest(
                key=self._first,
                range_end=self._end,
                start_revision=start,
                progress_notify=True,
                prev_kv=True,
                fragment=True,
            )
        )

    async def _begun(self, answer: pb.WatchResponse) -> Failure | None:
        """The member follows; unless it is one whose data was wiped, which would be silent for ever."""
        if answer.header.revision < self._batcher.next - 1:
            # It may only lag behind the others: they know.
            try:
                await self._client.revision()
            except StoreReplacedError as error:
                return Failure(Verdict.FINAL, error.message, error)
            except SwarmError as error:
                return Failure(Verdict.ELSEWHERE, error.message)
        self._watch_id = answer.watch_id
        self._following = True
        self.begun.set()
        return None

    async def _probe(self, endpoint: Endpoint, stream: WatchStream) -> None:
        """Ask a silent stream how far it is; give it up if there is no answer."""
        timing, loop = self._client.timing, asyncio.get_running_loop()
        opened_s = self._heard_s = loop.time()
        while True:
            await asyncio.sleep(timing.probe_s)
            if self._watch.full:
                # Nobody reads the stream: its silence means nothing.
                self._heard_s = loop.time()
                continue
            silent_s = loop.time() - max(self._heard_s, opened_s)
            if silent_s > timing.silence_s and not await self._alive(endpoint, silent_s):
                stream.cancel()
                return
            if self._following and not await _asked(stream, timing.silence_s):
                return

    async def _alive(self, endpoint: Endpoint, silent_s: float) -> bool:
        if not self._following or silent_s > _LONGEST_SILENCE_S:
            return False
        heard_s = self._heard_s
        failed = isinstance(await self._habits(endpoint, self._client.timing.attempt_s), Failure)
        return not failed or self._heard_s > heard_s


async def _asked(stream: WatchStream, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            return await sent(stream, _HOW_FAR)
    except TimeoutError:
        stream.cancel()
        return False


def _ended(answer: pb.WatchResponse, habits: Habits) -> Failure:
    if answer.compact_revision:
        # Where a watch begins one revision early, the compacted one itself can't be asked for.
        oldest = answer.compact_revision + (0 if habits.keeps_deletions else 1)
        return Failure(Verdict.FINAL, "compacted", CompactedError(oldest))
    return refusal_of_watch(answer.cancel_reason)
