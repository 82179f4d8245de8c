"""API keys of clients on the wire."""

from __future__ import annotations

from swarmplane.client_keys import ClientKey
from swarmplane.store.v1.store_pb2 import ApiKey
from swarmplane.v1 import sidecar_pb2 as pb


def client_key_to_pb(key: ClientKey) -> pb.ClientKey:
    """``key`` as a message."""
    return pb.ClientKey(
        id=key.id,
        sha256=key.digest,
        name=key.name,
        models=key.models,
        manage=key.manage,
        requests_per_minute=key.requests_per_minute,
        tokens_per_day=key.tokens_per_day,
        concurrency=key.concurrency,
        expires_at_s=key.expires_at_s,
    )


def client_key_from_pb(message: pb.ClientKey | ApiKey) -> ClientKey:
    """The key in ``message``, as it travels or as it is kept."""
    return ClientKey(
        id=message.id,
        digest=message.sha256,
        name=message.name,
        models=tuple(message.models),
        manage=message.manage,
        requests_per_minute=message.requests_per_minute,
        tokens_per_day=message.tokens_per_day,
        concurrency=message.concurrency,
        expires_at_s=message.expires_at_s,
    )
