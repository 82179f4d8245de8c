"""``EventService``."""

from __future__ import annotations

from typing import Any, Final

import grpc

from controlplane.services.events import Events, Told
from swarmplane.v1 import event_pb2 as pb
from swarmplane.v1 import event_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
BOOKMARK: Final = "bookmark"


class EventServicer(event_pb2_grpc.EventServiceServicer):
    """See event.proto."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def Watch(self, request: pb.WatchEventsRequest, context: Context) -> None:  # noqa: N802 - as in the contract
        """See ``EventService.Watch`` in event.proto."""

        async def emit(told: Told) -> None:
            await context.write(_event_to_pb(told))

        await self._events.watch(request.revision, tuple(request.kinds), emit)


def _event_to_pb(told: Told) -> pb.Event:
    if told.happening is None:
        return pb.Event(revision=told.revision, kind=BOOKMARK)
    return pb.Event(
        revision=told.revision,
        kind=told.happening.kind,
        subject=told.happening.subject,
        name=told.happening.name,
        message=told.happening.message,
    )
