"""One stream to one instance, from Hello to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from sidecar.control.inbox import Inbox, Keeping, Progress
from sidecar.control.outbox import Facts, Outbox, Pace
from sidecar.core.prefix import HASH_VERSION
from swarmplane import features
from swarmplane.channels import STREAM_RESET, swarm_errors
from swarmplane.clock import Clock
from swarmplane.codec.inventory import inventory_to_pb
from swarmplane.codec.version import version_to_pb
from swarmplane.errors import Code, SwarmError, UnauthenticatedError, UnavailableError
from swarmplane.ids import NodeId
from swarmplane.surviving import survive
from swarmplane.v1 import node_pb2, node_pb2_grpc, sidecar_pb2_grpc
from swarmplane.v1 import sidecar_pb2 as pb

Call = grpc.aio.StreamStreamCall[pb.SidecarMessage, pb.ControlMessage]

WELCOME_S: Final = 20.0
"""Longest wait for an answer to Hello, and for the next while there is a line. A dead instance is noticed by
pings, and sooner; of one that serves very many at once nobody should ask to begin anew."""
LINE_S: Final = 120.0
"""Longest wait in a line."""
GOODBYE_S: Final = 2.0
WRITE_S: Final = 10.0
"""A message that can't be handed on for so long means a dead stream."""
SLOWEST_S: Final = 10.0
"""Longest interval between loads that an instance may ask for."""
_LEAST_LOOK_S: Final = 0.02
_REPORT_S: Final = 1.0
_REASON_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Host:
    """What Hello says of this host."""

    node_id: NodeId
    incarnation: str
    """Random, new at every start of the process."""
    peer_addresses: tuple[str, ...]
    software_version: str
    platform: str
    client_url: str


class RejectedError(SwarmError):
    """The instance refused the stream."""

    def __init__(self, reject: pb.Reject) -> None:
        super().__init__(reject.message, code=Code.of_slug(reject.code))
        self.retry = reject.retry
        self.retry_after_s = reject.retry_after_s


class RedirectedError(SwarmError):
    """The instance named others to go to; nobody suspects this node for it."""

    default_code = Code.UNAVAILABLE

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__("the instance sent us to another one")
        self.addresses = tuple(addresses)


class Session:
    """Runs one stream over ``channel``.

    ``welcomed`` is called once, with what Welcome said; ``placed`` whenever instances came or went.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        host: Host,
        facts: Facts,
        keeping: Keeping,
        progress: Progress,
        clock: Clock,
        welcomed: Callable[[pb.Welcome], None],
        placed: Callable[[pb.Instances], None],
    ) -> None:
        self._channel = channel
        self._host = host
        self._facts = facts
        self._keeping = keeping
        self._progress = progress
        self._clock = clock
        self._welcomed = welcomed
        self._placed = placed
        self._changed = asyncio.Event()
        self._leaving = ""

    def wake(self) -> None:
        """Something to report may have changed."""
        self._changed.set()

    def leave(self, reason: str) -> None:
        """Say goodbye and end: the endpoints of this node leave the table at once."""
        self._leaving = reason
        self._changed.set()

    async def run(self) -> None:
        """Until :meth:`leave`, or an error.

        Raises:
            SwarmError: The stream could not be opened, was refused, redirected or lost.
        """
        call: Call = sidecar_pb2_grpc.SidecarServiceStub(self._channel).Connect()
        try:
            with swarm_errors():
                await self._converse(call)
        except BaseExceptionGroup as failures:
            survive()
            raise await self._reason(_first(failures)) from failures
        except UnavailableError as error:
            raise await self._reason(error) from error
        finally:
            call.cancel()

    async def _reason(self, failure: BaseException) -> BaseException:
        """Why the stream ended. A write to one that was ended does not say it: a short call does."""
        if not isinstance(failure, UnavailableError) or failure.message != STREAM_RESET:
            return failure
        ask: Callable[..., Awaitable[object]] = node_pb2_grpc.NodeServiceStub(self._channel).Get
        try:
            with swarm_errors():
                await ask(node_pb2.GetNodeRequest(node=self._host.node_id), timeout=_REASON_S)
        except UnauthenticatedError as error:
            return error
        except SwarmError:
            return failure
        return failure

    async def _converse(self, call: Call) -> None:
        try:
            async with asyncio.timeout(WELCOME_S) as limit:
                await call.write(pb.SidecarMessage(hello=self._hello()))
                inventory = self._facts.inventory()
                with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
                    # Where the stream has ended already, reading says why.
                    await call.write(pb.SidecarMessage(inventory=inventory_to_pb(inventory)))
                first = await its_turn(call, limit)
        except TimeoutError as error:
            raise UnavailableError("the control plane did not answer in time") from error
        welcome = _welcome(first)
        self._facts.routes.balancer.agree(welcome.prefix_key)
        self._welcomed(welcome)
        pace = Pace(welcome.heartbeat_s, welcome.load_interval_s)
        outbox = Outbox(self._facts, pace, self._clock.now_s(), inventory)
        inbox = Inbox(self._facts.routes, self._keeping, self._progress, self._clock, outbox.answer)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(call, inbox, outbox), name="control read")
            group.create_task(self._write(call, outbox, reading), name="control write")

    def _hello(self) -> pb.Hello:
        host = self._host
        return pb.Hello(
            node_id=host.node_id,
            incarnation=host.incarnation,
            last_version=version_to_pb(self._facts.routes.view.table.version),
            features=features.ALL,
            peer_addresses=host.peer_addresses,
            software_version=host.software_version,
            platform=host.platform,
            client_url=host.client_url,
            hash_version=HASH_VERSION,
        )

    async def _read(self, call: Call, inbox: Inbox, outbox: Outbox) -> None:
        with swarm_errors():
            while isinstance(message := await call.read(), pb.ControlMessage):
                match message.WhichOneof("kind"):
                    case "reject":
                        raise RejectedError(message.reject)
                    case "redirect":
                        raise RedirectedError(message.redirect.control_addresses)
                    case "instances":
                        self._placed(message.instances)
                        continue
                    case "load_digest" if message.load_digest.load_interval_s > 0:
                        outbox.slow_down(min(message.load_digest.load_interval_s, SLOWEST_S))
                await inbox.take(message)
                self._changed.set()
        if not self._leaving:
            raise UnavailableError("the control plane ended the stream")

    async def _write(self, call: Call, outbox: Outbox, reading: asyncio.Task[None]) -> None:
        reports_due_s = self._clock.now_s() + _REPORT_S
        with swarm_errors():
            while not self._leaving:
                self._changed.clear()
                now_s = self._clock.now_s()
                if now_s >= reports_due_s:
                    reports_due_s = now_s + _REPORT_S
                    for report in outbox.reports():
                        outbox.answer(report)
                while (message := outbox.next(now_s)) is not None:
                    async with asyncio.timeout(WRITE_S):
                        await call.write(message)
                await self._wait(min(outbox.due_s(now_s), reports_due_s) - self._clock.now_s())
            async with asyncio.timeout(GOODBYE_S):
                await call.write(pb.SidecarMessage(goodbye=pb.Goodbye(reason=self._leaving)))
                await call.done_writing()
                # The answer is the end of the stream: the goodbye was read.
                await asyncio.wait({reading})
        reading.cancel()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, _LEAST_LOOK_S)):
                await self._changed.wait()
        except TimeoutError:
            return


async def its_turn(call: Call, limit: asyncio.Timeout) -> pb.ControlMessage | object:
    """What comes after all that says that there is a line; each such word moves ``limit``."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + LINE_S
    while isinstance(first := await call.read(), pb.ControlMessage) and first.WhichOneof("kind") == "in_line":
        limit.reschedule(min(loop.time() + WELCOME_S, ends_s))
    return first


def _welcome(first: pb.ControlMessage | object) -> pb.Welcome:
    if not isinstance(first, pb.ControlMessage):
        raise UnavailableError("the control plane ended the stream")
    match first.WhichOneof("kind"):
        case "welcome":
            welcome: pb.Welcome = first.welcome
            return welcome
        case "reject":
            raise RejectedError(first.reject)
        case "redirect":
            raise RedirectedError(first.redirect.control_addresses)
        case kind:
            raise UnavailableError(f"the control plane answered Hello with {kind}")


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that says most: ours before a time-out, a time-out before anything else."""
    flat: list[BaseException] = []
    left: list[BaseException] = [failures]
    while left:
        one = left.pop(0)
        if isinstance(one, BaseExceptionGroup):
            left.extend(one.exceptions)
        else:
            flat.append(one)
    ours = next((one for one in flat if isinstance(one, SwarmError)), None)
    if ours is not None:
        return ours
    if any(isinstance(one, TimeoutError) for one in flat):
        return UnavailableError("the control plane takes nothing any more")
    return flat[0]
