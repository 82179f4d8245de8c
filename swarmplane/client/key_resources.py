"""API keys of clients, for both clients of the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from swarmplane.client.blocking_transport import BlockingTransport
from swarmplane.client.calls import PAGE, Call
from swarmplane.client.transport import Transport
from swarmplane.client.values import Page
from swarmplane.ids import random_id
from swarmplane.v1 import key_pb2 as pb


@dataclass(frozen=True, slots=True)
class Key:
    """An API key's facts, without its secret. Figures that are 0 limit nothing."""

    id: str
    name: str = ""
    models: tuple[str, ...] = ()
    """Names, or patterns of names, that it may use; empty: all."""
    manage: bool = False
    """Whether it may pull, create, copy and delete models, and pin them."""
    requests_per_minute: int = 0
    tokens_per_day: int = 0
    concurrency: int = 0
    state: str = "active"
    """active or expired."""
    expires_at_s: int = 0
    """Unix seconds; 0: until revoked."""
    created_at_s: int = 0
    created_by: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. Its secret is here and nowhere else."""

    key: Key
    secret: str = field(repr=False)


class AsyncKeys:
    """API keys of clients."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Key]:
        """API keys without their secrets, by id."""
        return self._transport.items(_list_keys)

    async def create(
        self,
        name: str = "",
        *,
        models: Sequence[str] = (),
        manage: bool = False,
        requests_per_minute: int = 0,
        tokens_per_day: int = 0,
        concurrency: int = 0,
        ttl_s: int = 0,
        request_id: str = "",
    ) -> NewKey:
        """A new API key; no models: all of them; 0: no limit."""
        return await self._transport.call(
            _create_key(
                request_id, name=name, models=models, manage=manage, requests_per_minute=requests_per_minute,
                tokens_per_day=tokens_per_day, concurrency=concurrency, ttl_s=ttl_s,
            )
        )  # fmt: skip

    async def revoke(self, key_id: str, *, request_id: str = "", expected_revision: int = 0) -> str:
        """End the key with this id, or name, at once; its id."""
        return await self._transport.call(_revoke_key(key_id, request_id, expected_revision))


class Keys:
    """API keys of clients."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Key]:
        """API keys without their secrets, by id."""
        return self._transport.items(_list_keys)

    def create(
        self,
        name: str = "",
        *,
        models: Sequence[str] = (),
        manage: bool = False,
        requests_per_minute: int = 0,
        tokens_per_day: int = 0,
        concurrency: int = 0,
        ttl_s: int = 0,
        request_id: str = "",
    ) -> NewKey:
        """A new API key; no models: all of them; 0: no limit."""
        return self._transport.call(
            _create_key(
                request_id, name=name, models=models, manage=manage, requests_per_minute=requests_per_minute,
                tokens_per_day=tokens_per_day, concurrency=concurrency, ttl_s=ttl_s,
            )
        )  # fmt: skip

    def revoke(self, key_id: str, *, request_id: str = "", expected_revision: int = 0) -> str:
        """End the key with this id, or name, at once; its id."""
        return self._transport.call(_revoke_key(key_id, request_id, expected_revision))


def _list_keys(page_token: str) -> Call[Page[Key]]:
    return Call(
        "KeyService/List",
        pb.ListKeysRequest(page_size=PAGE, page_token=page_token),
        pb.ListKeysResponse,
        lambda page: Page(tuple(map(_key, page.keys)), page.next_page_token),
    )


def _create_key(request_id: str, **wanted: Any) -> Call[NewKey]:  # noqa: ANN401 - fields of the request
    return Call(
        "KeyService/Create",
        pb.CreateKeyRequest(request_id=request_id or random_id(), **wanted),
        pb.CreateKeyResponse,
        lambda made: NewKey(_key(made.key), made.secret),
    )


def _revoke_key(key_id: str, request_id: str, expected_revision: int) -> Call[str]:
    request = pb.RevokeKeyRequest(
        id=key_id, request_id=request_id or random_id(), expected_revision=expected_revision
    )
    return Call("KeyService/Revoke", request, pb.RevokeKeyResponse, lambda ended: ended.id)


def _key(message: pb.Key) -> Key:
    return Key(
        id=message.id,
        name=message.name,
        models=tuple(message.models),
        manage=message.manage,
        requests_per_minute=message.requests_per_minute,
        tokens_per_day=message.tokens_per_day,
        concurrency=message.concurrency,
        state=message.state,
        expires_at_s=message.expires_at_s,
        created_at_s=message.created_at_s,
        created_by=message.created_by,
        revision=message.revision,
    )
