"""Digests of cached prompts on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from swarmplane.codec.load import MOST_ID_CHARACTERS
from swarmplane.ids import EndpointId, ModelName
from swarmplane.prefixes import HASH_BYTES, MOST_BLOCKS, EndpointPrefixes
from swarmplane.v1 import sidecar_pb2 as pb


def prefixes_to_pb(one: EndpointPrefixes) -> pb.EndpointPrefixes:
    """``one`` as a message."""
    return pb.EndpointPrefixes(
        endpoint_id=one.endpoint, model=one.model, blocks=one.blocks, hash_version=one.hash_version
    )


def prefixes_from_pb(messages: Iterable[pb.EndpointPrefixes]) -> tuple[EndpointPrefixes, ...]:
    """The digests in ``messages``, cut to their longest; without those that have no or absurd names."""
    longest = HASH_BYTES * MOST_BLOCKS
    return tuple(
        EndpointPrefixes(
            EndpointId(message.endpoint_id),
            ModelName(message.model),
            message.blocks[:longest],
            message.hash_version,
        )
        for message in messages
        if 0 < len(message.endpoint_id) <= MOST_ID_CHARACTERS and 0 < len(message.model) <= MOST_ID_CHARACTERS
    )
