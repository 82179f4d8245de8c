"""Exactly one controller: an election with a lease in the store, and a condition on all that it writes.

Whoever creates ``elections/controller`` under its lease leads until that lease ends; the same transaction
raises the durable epoch. The leader counts from when it *asked* for its last renewal, and stops by its own
clock before its lease can end. Should clocks fail too, its writes do: each has the condition that the key is
the one that it created.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from controlplane.core.election import ElectionPolicy, Tenure, ends_s, holds, renewed
from controlplane.services import keyspace
from controlplane.services.mirror import Mirror, Turn
from controlplane.store.port import Compare, Put, Store, StoreReplacedError, absent, created, modified
from swarmplane.clock import Clock
from swarmplane.codec import records
from swarmplane.errors import StaleEpochError, SwarmError
from swarmplane.ids import InstanceId

T = TypeVar("T")
log = structlog.get_logger(__name__)

CONTROLLER: Final = "controller"
_RETRY_S: Final = 0.2
_GIVE_BACK_S: Final = 0.5


class Leadership:
    """Stands for election as long as :meth:`run` runs, until :meth:`resign`."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        policy: ElectionPolicy,
        *,
        instance: InstanceId,
        unix_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._policy = policy
        self._instance = instance
        self._unix_s = unix_s
        self._key = keyspace.election(CONTROLLER)
        self._epoch_key = keyspace.epoch(CONTROLLER)
        self._tenure: Tenure | None = None
        self._asked_s: float | None = None
        """Since when the store owes an answer."""
        self.outages = 0
        """How often it owed one for too long: then nobody was elected, renewed or welcomed."""
        self._resigned = False
        self._vacant = asyncio.Event()
        self._lost = asyncio.Event()
        self._subscribers: list[Callable[[], None]] = []
        mirror.subscribe(self._turn)

    @property
    def leading(self) -> bool:
        """Whether this instance may decide now."""
        return holds(self._tenure, self._clock.now_s(), self._policy)

    @property
    def epoch(self) -> int:
        """The fencing number of the present tenure; 0 without one."""
        return self._tenure.epoch if self._tenure is not None else 0

    @property
    def guard(self) -> Compare:
        """The condition of every write of the controller.

        Raises:
            StaleEpochError: This instance does not lead.
        """
        if self._tenure is None or not self.leading:
            raise StaleEpochError("this instance is not the controller")
        return created(self._key, self._tenure.revision)

    def subscribe(self, act: Callable[[], None]) -> None:
        """Call ``act`` whenever this instance was elected."""
        self._subscribers.append(act)

    async def check(self) -> None:
        """After a write whose conditions failed: whether it was the election.

        Raises:
            StaleEpochError: Another one leads, or nobody.
        """
        tenure = self._tenure
        kv = await self._store.get(self._key)
        if tenure is None or kv is None or kv.create_revision != tenure.revision:
            self._lost.set()
            raise StaleEpochError("this instance is no longer the controller")

    async def run(self) -> None:
        """Stand, lead and stand again, until cancelled.

        Raises:
            StoreReplacedError: Nothing learnt from the store holds any longer.
        """
        try:
            while True:
                try:
                    await self._stand()
                except StoreReplacedError:
                    raise
                except SwarmError as error:
                    log.warning("election.not_held", reason=error.message)
                    await self._clock.sleep(_RETRY_S * (1 + random.random()))  # noqa: S311 - jitter
        finally:
            self._tenure = None

    async def resign(self) -> None:
        """Lead no longer, and never again: others are elected at once, not when the lease ends."""
        self._resigned = True
        tenure, self._tenure = self._tenure, None
        self._lost.set()
        if tenure is not None:
            await self._give_back(tenure.lease)
            log.info("controller.resigned", epoch=tenure.epoch)

    async def _stand(self) -> None:
        if self._resigned:
            await asyncio.get_running_loop().create_future()
        self._vacant.clear()
        tenure = await self._campaign()
        if tenure is None:
            # Told at once by the watch; looked for in any case.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.ttl_s):
                    await self._vacant.wait()
            return
        if self._resigned:
            await self._give_back(tenure.lease)
            return
        self._tenure = tenure
        self._lost.clear()
        log.info("controller.elected", epoch=tenure.epoch)
        for act in self._subscribers:
            act()
        try:
            await self._hold(tenure)
        finally:
            if self._tenure is not None:
                log.warning("controller.stepped_down", epoch=tenure.epoch)
                self._tenure = None
                await self._give_back(tenure.lease)

    async def _campaign(self) -> Tenure | None:
        """A tenure; None where somebody else has one."""
        if await self._answer(self._store.get(self._key)) is not None:
            return None
        sent_s = self._clock.now_s()
        lease = await self._store.grant(self._policy.ttl_s)
        won: Tenure | None = None
        try:
            kv = await self._store.get(self._epoch_key)
            counter = records.parse(records.Counter, kv.value if kv is not None else b"")
            counter.value += 1
            election = records.Election(
                instance_id=self._instance, epoch=counter.value, elected_at_s=int(self._unix_s())
            )
            done = await self._store.transact(
                [absent(self._key), modified(self._epoch_key, kv.mod_revision if kv is not None else 0)],
                [
                    Put(self._key, election.SerializeToString(), lease),
                    Put(self._epoch_key, counter.SerializeToString()),
                ],
            )
            if done.succeeded:
                won = Tenure(done.revision, counter.value, lease, sent_s)
            return won
        finally:
            if won is None:
                await self._give_back(lease)

    async def _hold(self, tenure: Tenure) -> None:
        """Renew until the tenure is lost, or over by our own clock."""
        next_s = self._clock.now_s()
        while holds(tenure, self._clock.now_s(), self._policy) and not self._lost.is_set():
            await self._pause(next_s - self._clock.now_s())
            sent_s = self._clock.now_s()
            left_s = ends_s(tenure, self._policy) - sent_s
            if left_s <= 0 or self._lost.is_set():
                return
            next_s = sent_s + self._policy.every_s
            try:
                async with asyncio.timeout(left_s):
                    if not await self._answer(self._store.keep_alive(tenure.lease)):
                        return
            except StoreReplacedError:
                raise
            except (SwarmError, TimeoutError):
                next_s = sent_s + _RETRY_S
                continue
            tenure = renewed(tenure, sent_s)
            if self._tenure is not None:
                self._tenure = tenure

    async def _answer(self, asking: Awaitable[T]) -> T:
        """What the store answers. An outage counts when it is over: what it holds up is held from then."""
        if self._asked_s is None:
            self._asked_s = self._clock.now_s()
        answer = await asking
        if self._clock.now_s() - self._asked_s >= self._policy.outage_s:
            self.outages += 1
        self._asked_s = None
        return answer

    async def _pause(self, seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._clock.sleep(max(0.0, seconds)), name="election-renewal"),
                group.create_task(self._lost.wait(), name="election-lost"),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    async def _give_back(self, lease: int) -> None:
        """End the lease, and with it the key; if the store does not answer, time will."""
        with contextlib.suppress(SwarmError, TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_S):
                await self._store.revoke(lease)

    def _turn(self, turn: Turn) -> None:
        for change in turn.changes:
            if change.prefix != keyspace.ELECTIONS or change.name != CONTROLLER:
                continue
            if change.after is None:
                self._vacant.set()
            tenure = self._tenure
            if tenure is None or change.revision <= tenure.revision:
                continue
            if change.after is None or change.after.create_revision != tenure.revision:
                self._lost.set()
