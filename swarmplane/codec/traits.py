"""What is known of weights, on the wire."""

from __future__ import annotations

from swarmplane.traits import UNKNOWN_TRAITS, Traits
from swarmplane.v1 import route_pb2 as pb


def traits_to_pb(traits: Traits) -> pb.Traits | None:
    """``traits`` as a message; None where nothing is known: most tables hold many of those."""
    if traits == UNKNOWN_TRAITS:
        return None
    return pb.Traits(
        digest=traits.digest,
        family=traits.family,
        format=traits.format,
        parameter_size=traits.parameter_size,
        quantization=traits.quantization,
        size_bytes=traits.size_bytes,
        capabilities=traits.capabilities,
        trained_context=traits.trained_context,
        modified_s=traits.modified_s,
    )


def traits_from_pb(message: pb.Traits) -> Traits:
    """The traits in ``message``."""
    return Traits(
        digest=message.digest,
        family=message.family,
        format=message.format,
        parameter_size=message.parameter_size,
        quantization=message.quantization,
        size_bytes=message.size_bytes,
        capabilities=tuple(message.capabilities),
        trained_context=message.trained_context,
        modified_s=message.modified_s,
    )
