"""API keys of clients: made, listed, revoked. Sidecars are told of them with the policy, and check them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.core.names import is_model_name
from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation, Mutations
from controlplane.store.port import Delete, KeyValue, Put, Store, absent, modified
from swarmplane.aliases import MOST_WILD, WILD
from swarmplane.client_keys import SECRET_BYTES, ClientKey, key_digest, key_text
from swarmplane.codec import records
from swarmplane.codec.client_keys import client_key_from_pb
from swarmplane.errors import ConflictError, InvalidRequestError, NotFoundError
from swarmplane.ids import ModelName, random_id

MOST_KEYS: Final = 1_000
"""In a swarm: every sidecar has them all."""
MOST_MODELS: Final = 64
MAX_TTL_S: Final = 10 * 365 * 86_400
_MOST_REQUESTS: Final = 2**31 - 1
_MOST_TOKENS: Final = 2**53
_LONGEST_NAME: Final = 64
_ID_BITS: Final = 50


@dataclass(frozen=True, slots=True)
class WantedKey:
    """What somebody wants a key for. Figures that are 0 limit nothing."""

    name: str = ""
    models: tuple[str, ...] = ()
    manage: bool = False
    requests_per_minute: int = 0
    tokens_per_day: int = 0
    concurrency: int = 0
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A key without its secret."""

    key: ClientKey
    created_at_s: int
    created_by: str
    state: str
    """active or expired."""
    revision: int


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys ordered by id."""

    keys: tuple[KeyFacts, ...]
    revision: int
    last: str
    """Key of the store to go on after; empty at the end."""


class ClientKeys:
    """Reads and makes them."""

    def __init__(self, store: Store, mutations: Mutations, unix_s: Callable[[], float]) -> None:
        self._store = store
        self._mutations = mutations
        self._unix_s = unix_s

    async def create(
        self, caller: Caller, wanted: WantedKey, *, repeat: Repeat, encode: Callable[[KeyFacts, str], bytes]
    ) -> Committed:
        """Make a key; ``encode`` gets its facts and its text, which is nowhere else afterwards.

        Raises:
            InvalidRequestError: A name or a figure is out of bounds.
            ConflictError: There are too many, or one has that name.
        """
        _check(wanted)

        async def plan() -> Mutation:
            found = (await self._store.range(keyspace.KEYS, limit=MOST_KEYS)).items
            if len(found) >= MOST_KEYS:
                raise ConflictError(f"there are {MOST_KEYS} API keys already; revoke some")
            if wanted.name and any(_record(kv).name == wanted.name for kv in found):
                raise ConflictError(f"an API key is called {wanted.name!r} already")
            now_s = int(self._unix_s())
            text = key_text(secrets.token_bytes(SECRET_BYTES))
            record = records.ApiKey(
                id=random_id(_ID_BITS),
                sha256=key_digest(text.encode()),
                name=wanted.name,
                models=wanted.models,
                manage=wanted.manage,
                requests_per_minute=wanted.requests_per_minute,
                tokens_per_day=wanted.tokens_per_day,
                concurrency=wanted.concurrency,
                expires_at_s=now_s + wanted.ttl_s if wanted.ttl_s else 0,
                created_at_s=now_s,
                created_by=caller.subject.id,
            )
            at = keyspace.api_key(record.id)
            return Mutation(
                (absent(at),),
                (Put(at, record.SerializeToString()),),
                "key.create",
                record.id,
                f"created the API key {wanted.name or record.id}" + (", which may manage" * wanted.manage),
                encode(_facts(record, now_s, 0), text),
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def page(self, *, after: str, limit: int, revision: int) -> KeyPage:
        """Up to ``limit`` keys after the store's key ``after``, as they stood at ``revision`` (0: now)."""
        found = await self._store.range(keyspace.KEYS, start_after=after, limit=limit, revision=revision)
        now_s = self._unix_s()
        keys = tuple(_facts(_record(kv), now_s, kv.mod_revision) for kv in found.items)
        return KeyPage(keys, found.revision, found.items[-1].key if found.more and found.items else "")

    async def revoke(
        self,
        caller: Caller,
        named: str,
        *,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[str], bytes],
    ) -> Committed:
        """End the key with the id or the name ``named`` at once; ``encode`` gets its id.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is not at ``expected_revision`` (0: any).
        """

        async def plan() -> Mutation:
            found = (await self._store.range(keyspace.KEYS, limit=MOST_KEYS)).items
            kv = next((kv for kv in found if named and named in {_record(kv).id, _record(kv).name}), None)
            if kv is None:
                raise NotFoundError(f"there is no API key {named[:_LONGEST_NAME]!r}; see: swarmctl key list")
            if expected_revision not in {0, kv.mod_revision}:
                raise ConflictError(
                    f"the API key is at revision {kv.mod_revision}, not {expected_revision}",
                    revision=str(kv.mod_revision),
                )
            record = _record(kv)
            return Mutation(
                (modified(kv.key, kv.mod_revision),),
                (Delete(kv.key),),
                "key.revoke",
                record.id,
                f"revoked the API key {record.name or record.id}",
                encode(record.id),
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)


def keys_of(found: Mapping[str, KeyValue]) -> tuple[ClientKey, ...]:
    """What sidecars are told, by id."""
    return tuple(client_key_from_pb(_record(found[name])) for name in sorted(found))


def _record(kv: KeyValue) -> records.ApiKey:
    return records.parse(records.ApiKey, kv.value)


def _facts(record: records.ApiKey, now_s: float, revision: int) -> KeyFacts:
    key = client_key_from_pb(record)
    state = "expired" if key.expired(now_s) else "active"
    return KeyFacts(key, record.created_at_s, record.created_by, state, revision)


def _check(wanted: WantedKey) -> None:
    if len(wanted.name) > _LONGEST_NAME or not wanted.name.isprintable():
        raise InvalidRequestError(
            f"a key's name has at most {_LONGEST_NAME} printable characters", param="name"
        )
    _check_models(wanted.models)
    if wanted.ttl_s > MAX_TTL_S:
        raise InvalidRequestError("a key lives for ten years at most, or until it is revoked", param="ttl_s")
    largest = max(wanted.requests_per_minute, wanted.concurrency)
    if largest > _MOST_REQUESTS or wanted.tokens_per_day > _MOST_TOKENS:
        raise InvalidRequestError("a limit is out of bounds; 0 means none")


def _check_models(models: Sequence[str]) -> None:
    if len(models) > MOST_MODELS:
        raise InvalidRequestError(
            f"name at most {MOST_MODELS} models; a pattern may replace some", param="models"
        )
    for name in models:
        if not is_model_name(ModelName(name)) or name.count(WILD) > MOST_WILD:
            raise InvalidRequestError(
                f"{name[:64]!r} is neither a model's name nor a pattern of at most {MOST_WILD} stars",
                param="models",
            )
