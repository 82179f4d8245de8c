"""``PeerService``, both ends: what this instance tells the others, and its links to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
import structlog

from controlplane.services.exchange import BEAT_S, Exchange, Share
from swarmplane.channels import control_channel, swarm_errors
from swarmplane.clock import Clock
from swarmplane.codec.conditions import node_condition_to_pb, node_conditions_from_pb
from swarmplane.codec.load import load_entries_from_pb, load_entry_to_pb
from swarmplane.codec.prefixes import prefixes_from_pb, prefixes_to_pb
from swarmplane.credentials.files import Credential
from swarmplane.errors import SwarmError, UnavailableError
from swarmplane.ids import InstanceId, NodeId
from swarmplane.v1 import peer_pb2 as pb
from swarmplane.v1 import peer_pb2_grpc

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_SILENCE_S: Final = 3 * BEAT_S
"""An instance that says nothing for so long is frozen."""
_LOOK_S: Final = 0.5
_RETRY_S: Final = 1.0


class PeerServicer(peer_pb2_grpc.PeerServiceServicer):
    """See peer.proto."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def Share(self, request: pb.ShareRequest, context: Context) -> None:  # noqa: N802 - as in the contract
        """See ``PeerService.Share`` in peer.proto."""
        del request
        async with aclosing(self._exchange.shares()) as shares:
            async for share in shares:
                await context.write(
                    pb.ShareUpdate(
                        instance_id=share.instance,
                        endpoints=map(load_entry_to_pb, share.loads),
                        suspects=sorted(share.suspects),
                        departed=sorted(share.departed),
                        conditions=map(node_condition_to_pb, share.conditions),
                        prefixes=map(prefixes_to_pb, share.prefixes),
                    )
                )


class PeerLinks:
    """A link to every other instance that lives, as long as it lives."""

    def __init__(self, exchange: Exchange, credential: Callable[[], Credential], clock: Clock) -> None:
        self._exchange = exchange
        self._credential = credential
        self._clock = clock
        self._links: dict[InstanceId, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                others = self._exchange.others()
                for instance in [one for one in self._links if one not in others]:
                    self._links.pop(instance).cancel()
                for instance in others:
                    if instance not in self._links:
                        self._links[instance] = group.create_task(self._keep(instance), name="peer-link")
                await self._clock.sleep(_LOOK_S)

    async def _keep(self, instance: InstanceId) -> None:
        reason = ""
        try:
            while True:
                for address in self._exchange.others().get(instance, ()):
                    try:
                        await self._listen(instance, address)
                    except SwarmError as error:
                        if error.message != reason:
                            log.info("peer_link.lost", instance=instance, reason=error.message)
                        reason = error.message
                    finally:
                        self._exchange.lost(instance)
                await self._clock.sleep(_RETRY_S * (0.5 + random.random()))  # noqa: S311 - jitter
        finally:
            self._exchange.lost(instance)

    async def _listen(self, instance: InstanceId, address: str) -> None:
        """Take in what ``instance`` tells at ``address`` until it ends.

        Raises:
            SwarmError: It did.
        """
        channel = await control_channel(address, self._credential())
        async with channel:
            stub: Any = peer_pb2_grpc.PeerServiceStub(channel)
            call = stub.Share(pb.ShareRequest(instance_id=self._exchange.instance))
            try:
                with swarm_errors(address):
                    while True:
                        async with asyncio.timeout(_SILENCE_S):
                            update = await call.read()
                        if not isinstance(update, pb.ShareUpdate):
                            raise UnavailableError("it ended the stream")
                        if update.instance_id != instance:
                            raise UnavailableError("another instance answers at its address")
                        self._exchange.take(_share(update))
            except TimeoutError as error:
                raise UnavailableError("it says nothing any more") from error
            finally:
                call.cancel()


def _share(update: pb.ShareUpdate) -> Share:
    return Share(
        InstanceId(update.instance_id),
        load_entries_from_pb(update.endpoints),
        frozenset(map(NodeId, update.suspects)),
        frozenset(map(NodeId, update.departed)),
        node_conditions_from_pb(update.conditions),
        prefixes_from_pb(update.prefixes),
    )
