"""Versions on the wire."""

from __future__ import annotations

from swarmplane.routes import Version
from swarmplane.v1 import common_pb2 as pb


def version_to_pb(version: Version) -> pb.Version:
    """``version`` as a message."""
    return pb.Version(generation=version.generation, revision=version.revision)


def version_from_pb(message: pb.Version) -> Version:
    """The version in ``message``; 0.0 where it was left out."""
    return Version(message.generation, message.revision)
