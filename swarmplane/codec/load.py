"""Load reports on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from swarmplane.codec.wire import message_field, number_field
from swarmplane.ids import EndpointId
from swarmplane.load import LoadEntry
from swarmplane.v1 import sidecar_pb2 as pb

MOST_ID_CHARACTERS: Final = 1024
"""Of an endpoint's id: longer ones are nobody's, see ``core.names`` of the control plane."""
_MOST_ORIGINS: Final = 8192
_MOST_ORIGIN_CHARACTERS: Final = 64
_UINT32: Final = 2**32 - 1
_ENDPOINTS: Final = pb.LoadDigest.DESCRIPTOR.fields_by_name["endpoints"].number
_AGE: Final = pb.EndpointLoad.DESCRIPTOR.fields_by_name["age_ms"].number
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


def encoded_report(entry: LoadEntry) -> bytes:
    """``entry`` without its age, for :func:`encoded_load_entry`."""
    message = load_entry_to_pb(entry)
    message.age_ms = 0
    return message.SerializeToString()


def encoded_load_entry(report: bytes, age_ms: int) -> bytes:
    """An :func:`encoded_report` with an age, as a field of a LoadDigest: fields are joined by their bytes."""
    return message_field(_ENDPOINTS, report, number_field(_AGE, min(age_ms, _UINT32)))


def load_digest_message(entries: Iterable[bytes], load_interval_s: float) -> bytes:
    """A ControlMessage with a LoadDigest of ``entries``, each from :func:`encoded_load_entry`."""
    pace = pb.LoadDigest(load_interval_s=load_interval_s).SerializeToString()
    return message_field(_DIGEST, pace, *entries)


def load_entries_from_pb(messages: Iterable[pb.EndpointLoad]) -> tuple[LoadEntry, ...]:
    """The reports in ``messages``; those without an endpoint are left out, and so are absurd ones."""
    return tuple(
        LoadEntry(
            EndpointId(message.endpoint_id),
            dict(message.in_flight_by_origin),
            message.queued,
            message.slots,
            message.age_ms,
        )
        for message in messages
        if 0 < len(message.endpoint_id) <= MOST_ID_CHARACTERS and _credible(message.in_flight_by_origin)
    )


def _credible(origins: Mapping[str, int]) -> bool:
    return len(origins) <= _MOST_ORIGINS and all(len(name) <= _MOST_ORIGIN_CHARACTERS for name in origins)
