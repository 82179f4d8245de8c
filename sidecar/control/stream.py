"""The control stream: connected to some instance whenever one answers, for as long as the sidecar lives."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from sidecar.control.certificate import NodeCertificate
from sidecar.control.inbox import Keeping, Progress
from sidecar.control.outbox import Facts
from sidecar.control.places import Places
from sidecar.control.reconnect import reconnect_delay_s
from sidecar.control.session import Host, RedirectedError, RejectedError, Session
from swarmplane.channels import control_channel
from swarmplane.clock import Clock
from swarmplane.credentials.files import load_credential
from swarmplane.errors import SwarmError
from swarmplane.v1 import sidecar_pb2 as pb

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LEAVE_S: Final = 4.0
_REJECTED_LEAST_S: Final = 1.0
_SETTLE_S: Final = 1.0
"""So long the first Hello waits for a first look at the backends: it tells of all that they have at once."""
_SETTLE_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where control planes are, ``host:port``, most preferred first."""

    control: tuple[str, ...]
    join: tuple[str, ...]


Recall = Callable[[], Awaitable[Addresses]]
"""The addresses as they are kept now: ``swarmctl join`` adds to them while the sidecar runs."""
Remember = Callable[[Addresses, str, str], Awaitable[None]]
"""Keeps addresses, the node's name and the swarm's for the next start."""


class ControlStream:
    """Keeps one session open, reconnecting with jitter; forwarding never waits for it.

    ``remember`` and ``certificate`` write to disk; what fails there is said and tried again.
    """

    def __init__(
        self,
        host: Host,
        addresses: Addresses,
        facts: Facts,
        keeping: Keeping,
        certificate: NodeCertificate,
        remember: Remember,
        recall: Recall,
        clock: Clock,
    ) -> None:
        self._host = host
        self._places = Places(addresses.control, addresses.join)
        self._facts = facts
        self._keeping = keeping
        self._certificate = certificate
        self._remember = remember
        self._recall = recall
        self._clock = clock
        self._progress = Progress(applied_s=clock.now_s())
        self._session: Session | None = None
        self._welcome: pb.Welcome | None = None
        self._address, self._since_s = "", 0.0
        self._ahead_s: float | None = None
        self._wall_s = 0.0
        self._reason = "not connected yet"
        self._leaving = asyncio.Event()
        self._left = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._subscribers: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """Whether an instance has welcomed us and the stream stands."""
        return self._welcome is not None

    @property
    def connected_s(self) -> float | None:
        """For how long the stream has stood without a break; None: it does not."""
        return self._clock.now_s() - self._since_s if self.connected else None

    @property
    def join_addresses(self) -> tuple[str, ...]:
        """``host:port`` of enrolment listeners, those heard of last first."""
        return self._places.join

    @property
    def peer_addresses(self) -> tuple[str, ...]:
        """``host:port`` at which peers are told that they reach us."""
        return self._host.peer_addresses

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever an instance has welcomed us."""
        self._subscribers.append(callback)

    def move(self, peer_addresses: tuple[str, ...]) -> None:
        """Peers reach us at ``peer_addresses`` from now on: say so, in a new session."""
        self._host = replace(self._host, peer_addresses=peer_addresses)
        if self._session is not None:
            self._session.leave("moving")

    def wake(self) -> None:
        """Inventory or engines changed: report it now."""
        if self._session is not None:
            self._session.wake()

    def state(self) -> Mapping[str, Any]:
        """For people: admin ``/control``."""
        progress, welcome = self._progress, self._welcome
        return {
            "joined": True,
            "connected": self.connected,
            "instance": welcome.instance_id if welcome else "",
            "address": self._address,
            "addresses": list(self._places.control),
            "session": welcome.session if welcome else 0,
            "acked": str(progress.acked) if progress.acked else None,
            "table_version": str(self._facts.routes.view.table.version),
            "table_age_s": round(self._clock.now_s() - progress.applied_s, 3),
            "last_nack": {"version": str(progress.nacked), "reason": progress.nack_reason}
            if progress.nacked
            else None,
            "not_on_disk": self._keeping.trouble(),
            "reason": "" if self.connected else self._reason,
            "clock_ahead_s": self._clock_ahead_s(),
        }

    def _clock_ahead_s(self) -> float | None:
        """How far this host's clock is ahead of the instance's; None: it was never told.

        Compared when the stream began, off by half a round trip; what was done to this clock since counts.
        """
        if self._ahead_s is None:
            return None
        return round(self._ahead_s + time.time() - self._clock.now_s() - self._wall_s, 3)

    async def run(self) -> None:
        """Until cancelled, or left by :meth:`drain`."""
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew_for_ever(), name="certificate renewal")
            await self._stay_connected()
            renewing.cancel()
        # A part of the process that ends by itself is a failure: stay until cancelled.
        await asyncio.get_running_loop().create_future()

    async def drain(self) -> None:
        """Say goodbye: this node's endpoints leave the table at once, and nobody suspects it."""
        self._leaving.set()
        if self._session is not None:
            self._session.leave("stopping")
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._left.wait()
        except TimeoutError:
            log.warning("control.goodbye_timed_out", after_s=LEAVE_S)

    async def _stay_connected(self) -> None:
        await self._settle()
        lost_s, failures = self._clock.now_s(), 0
        while not self._leaving.is_set():
            pause_s, redirected, named = 0.0, False, False
            await self._look()
            address = self._places.next()
            try:
                await self._talk(address)
            except RedirectedError as error:
                self._places.redirected(error.addresses)
                redirected = True
            except RejectedError as error:
                self._failed(address, error)
                pause_s = max(error.retry_after_s, _REJECTED_LEAST_S)
                named = error.retry_after_s > 0
            except SwarmError as error:
                self._failed(address, error)
            except OSError as error:
                self._reason = f"the node's credential can't be read: {error.strerror}"
                log.warning("control.credential_unreadable", reason=str(error))
            if self._welcomed.is_set():
                self._welcomed.clear()
                lost_s, failures = self._clock.now_s(), 0
                if not redirected:
                    self._places.lost(address)
            if named:
                # It said when our turn is: later would leave its place empty.
                await self._pause(pause_s)
                continue
            draw = random.random()  # noqa: S311 - jitter
            delay_s = reconnect_delay_s(failures, self._clock.now_s() - lost_s, draw)
            failures += 1
            await self._pause(delay_s + pause_s)
        self._left.set()

    async def _settle(self) -> None:
        ends_s = self._clock.now_s() + _SETTLE_S
        while not (self._facts.settled() or self._leaving.is_set()) and self._clock.now_s() < ends_s:
            await self._clock.sleep(_SETTLE_LOOK_S)

    async def _look(self) -> None:
        kept = await self._recall()
        if self._places.pointed(kept.control, kept.join):
            log.info("control.pointed", addresses=list(kept.control))

    def _failed(self, address: str, error: SwarmError) -> None:
        if error.message != self._reason:
            # Once per change of reason: a dead control plane must not fill the log.
            log.warning("control.disconnected", address=address, code=error.code.slug, reason=error.message)
        self._reason = error.message

    async def _talk(self, address: str) -> None:
        if await self._certificate.expired():
            # No instance lets us in with it. Here, because here is who waits for one to answer.
            await self._certificate.renew_by_proof(self._places.join)
        credential = await asyncio.to_thread(load_credential, self._certificate.directory)
        async with await control_channel(address, credential) as channel, asyncio.TaskGroup() as group:

            def welcomed(welcome: pb.Welcome) -> None:
                self._welcome, self._address = welcome, address
                self._since_s = self._clock.now_s()
                self._ahead_s = time.time() - welcome.clock_s if welcome.clock_s > 0 else None
                self._wall_s = time.time() - self._since_s
                self._welcomed.set()
                log.info("control.connected", address=address, session=welcome.session)
                self._places.learned([address, *welcome.control_addresses], ())
                group.create_task(self._note(welcome), name="remember addresses")
                for callback in self._subscribers:
                    callback()

            def placed(instances: pb.Instances) -> None:
                if self._places.learned(instances.control_addresses, instances.join_addresses):
                    group.create_task(self._note(self._welcome), name="remember addresses")

            session = Session(
                channel, self._host, self._facts, self._keeping, self._progress, self._clock, welcomed, placed
            )
            self._session = session
            if self._leaving.is_set():
                return
            try:
                await session.run()
            except SwarmError as error:
                failure: SwarmError | None = error
            else:
                failure = None
            finally:
                self._session = self._welcome = None
        # Raised outside the group, which would wrap it.
        if failure is not None:
            raise failure

    async def _note(self, welcome: pb.Welcome | None) -> None:
        known = Addresses(self._places.control, self._places.join)
        names = (welcome.node_name, welcome.swarm_name) if welcome is not None else ("", "")
        try:
            await self._remember(known, *names)
        except OSError as error:
            log.warning("control.addresses_not_saved", reason=str(error))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        except TimeoutError:
            return

    async def _renew_for_ever(self) -> None:
        while True:
            try:
                await self._clock.sleep(await self._certificate.due_in_s())
                if not await self._certificate.expired():
                    if not self._address:
                        continue
                    credential = await asyncio.to_thread(load_credential, self._certificate.directory)
                    async with await control_channel(self._address, credential) as channel:
                        await self._certificate.renew(channel)
                elif self.connected:
                    await self._certificate.renew_by_proof(self._places.join)
            except (SwarmError, OSError) as error:
                log.warning("certificate.not_renewed", reason=str(error))
