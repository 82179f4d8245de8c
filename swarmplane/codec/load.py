"""Load reports on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarmplane.codec.wire import message_field
from swarmplane.ids import EndpointId
from swarmplane.load import LoadEntry
from swarmplane.v1 import sidecar_pb2 as pb

_UINT32: Final = 2**32 - 1
_DIGEST: Final = pb.ControlMessage.DESCRIPTOR.fields_by_name["load_digest"].number


def load_entry_to_pb(entry: LoadEntry) -> pb.EndpointLoad:
    """``entry`` as a message; figures beyond 32 bits are cut to that."""
    return pb.EndpointLoad(
        endpoint_id=entry.endpoint,
        in_flight_by_origin={origin: min(n, _UINT32) for origin, n in entry.in_flight_by_origin.items()},
        queued=min(entry.queued, _UINT32),
        slots=min(entry.slots, _UINT32),
        age_ms=min(entry.age_ms, _UINT32),
    )


def encoded_load_entry(entry: LoadEntry) -> bytes:
    """``entry`` as a field of a LoadDigest: such fields are joined by joining their bytes."""
    return pb.LoadDigest(endpoints=(load_entry_to_pb(entry),)).SerializeToString()


def load_digest_message(entries: Iterable[bytes], load_interval_s: float) -> bytes:
    """A ControlMessage with a LoadDigest of ``entries``, each from :func:`encoded_load_entry`."""
    pace = pb.LoadDigest(load_interval_s=load_interval_s).SerializeToString()
    return message_field(_DIGEST, pace, *entries)


def load_entries_from_pb(messages: Iterable[pb.EndpointLoad]) -> tuple[LoadEntry, ...]:
    """The reports in ``messages``; those without an endpoint are left out."""
    return tuple(
        LoadEntry(
            EndpointId(message.endpoint_id),
            dict(message.in_flight_by_origin),
            message.queued,
            message.slots,
            message.age_ms,
        )
        for message in messages
        if message.endpoint_id
    )
