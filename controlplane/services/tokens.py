"""Join tokens: made, listed, spent by compare-and-swap, revoked."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controlplane.services import keyspace
from controlplane.services.authority import SwarmAuthority
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation, Mutations
from controlplane.services.roles import GRANTABLE_BY, Role, parse_role
from controlplane.store.port import Compare, KeyValue, Put, Store, absent, modified
from swarmplane.codec import records
from swarmplane.credentials.join_token import new_join_token
from swarmplane.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnauthenticatedError,
)
from swarmplane.ids import TokenId

DEFAULT_TTL_S: Final = 86_400
MAX_TTL_S: Final = 10 * 365 * 86_400
MAX_USES: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """A token without its secret."""

    id: TokenId
    role: Role
    uses: int
    """0: no limit."""
    used: int
    expires_at_s: int
    """Unix seconds; 0: until revoked."""
    created_at_s: int
    state: str
    """active, expired, used_up or revoked."""
    created_by: str
    revision: int


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Tokens ordered by id."""

    tokens: tuple[TokenFacts, ...]
    revision: int
    last: str
    """Key to go on after; empty at the end."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What must hold and what is written when a token is spent; part of the enrolment's transaction."""

    token: TokenId
    role: Role
    compares: tuple[Compare, ...]
    operations: tuple[Put, ...]


class Tokens:
    """See the module."""

    def __init__(
        self, store: Store, authority: SwarmAuthority, mutations: Mutations, unix_s: Callable[[], float]
    ) -> None:
        self._store = store
        self._authority = authority
        self._mutations = mutations
        self._unix_s = unix_s

    async def create(
        self,
        caller: Caller,
        *,
        role: str,
        uses: int,
        ttl_s: int,
        repeat: Repeat,
        encode: Callable[[TokenFacts, str], bytes],
    ) -> Committed:
        """Make a token; ``encode`` gets its facts and its text, which is nowhere else afterwards.

        Raises:
            InvalidRequestError: There is no such role, or a figure is out of bounds.
            ForbiddenError: The caller may not grant this role.
        """
        granted = parse_role(role or Role.NODE.value)
        _check_may_grant(caller, granted)
        if not (0 <= uses <= MAX_USES and 0 <= ttl_s <= MAX_TTL_S):
            raise InvalidRequestError(f"uses go up to {MAX_USES}, a token's life up to ten years")

        async def plan() -> Mutation:
            now_s = int(self._unix_s())
            token = new_join_token(self._authority.fingerprint)
            record = records.Token(
                id=token.id,
                secret_sha256=_digest(token.secret),
                role=granted.value,
                uses=uses,
                expires_at_s=now_s + ttl_s if ttl_s else 0,
                created_at_s=now_s,
                created_by=caller.subject.id,
            )
            key = keyspace.token(token.id)
            return Mutation(
                (absent(key),),
                (Put(key, record.SerializeToString()),),
                "token.create",
                token.id,
                f"created a token of role {granted.value}, {uses or 'unlimited'} uses",
                encode(_facts(record, now_s, 0), token.format()),
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def page(self, *, after: str, limit: int, revision: int) -> TokenPage:
        """Up to ``limit`` tokens after the key ``after``, as they stood at ``revision`` (0: now)."""
        found = await self._store.range(keyspace.TOKENS, start_after=after, limit=limit, revision=revision)
        now_s = self._unix_s()
        tokens = tuple(_read(kv, now_s) for kv in found.items)
        return TokenPage(tokens, found.revision, found.items[-1].key if found.more else "")

    async def revoke(
        self,
        caller: Caller,
        token_id: TokenId,
        *,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[TokenFacts], bytes],
    ) -> Committed:
        """End a token at once. Doing it again changes nothing.

        Raises:
            NotFoundError: There is no such token.
            ForbiddenError: The caller may not grant its role either.
            ConflictError: It is not at ``expected_revision`` (0: any).
        """
        key = keyspace.token(token_id)

        async def plan() -> Mutation:
            kv = await self._store.get(key)
            if kv is None:
                raise NotFoundError(f"there is no token {token_id}; see: swarmctl token list")
            if expected_revision not in {0, kv.mod_revision}:
                raise ConflictError(
                    f"token {token_id} is at revision {kv.mod_revision}, not {expected_revision}",
                    revision=str(kv.mod_revision),
                )
            record = records.Token.FromString(kv.value)
            _check_may_grant(caller, parse_role(record.role))
            changed = not record.revoked
            record.revoked = True
            return Mutation(
                (modified(key, kv.mod_revision),),
                (Put(key, record.SerializeToString()),) if changed else (),
                "token.revoke",
                token_id,
                f"revoked a token of role {record.role}",
                encode(_facts(record, self._unix_s(), kv.mod_revision)),
                kv.mod_revision,
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def spend(self, token_id: TokenId, secret: str) -> Spending:
        """What it takes to spend one use. Nothing is written here.

        Raises:
            UnauthenticatedError: The token is unknown, wrong, revoked, expired or used up: each in its own
                words, and what it is only to those who have its secret. ``token`` in the details says which.
        """
        kv = await self._store.get(keyspace.token(token_id)) if token_id else None
        if kv is None:
            raise _refusal("unknown", "this swarm has no such token")
        record = records.Token.FromString(kv.value)
        if not hmac.compare_digest(record.secret_sha256, _digest(secret)):
            raise _refusal("wrong", "the token's secret is wrong: it was cut or changed on its way")
        match _state(record, self._unix_s()):
            case "revoked":
                raise _refusal("revoked", "the token was revoked")
            case "expired":
                raise _refusal("expired", "the token has expired")
            case "used_up":
                raise _refusal("used_up", f"the token is used up: all its uses ({record.uses}) were spent")
        record.used += 1
        return Spending(
            token_id,
            parse_role(record.role),
            (modified(kv.key, kv.mod_revision),),
            (Put(kv.key, record.SerializeToString()),),
        )


def _refusal(state: str, reason: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"{reason}; ask for a new one (swarmctl token create)", token=state)


def _check_may_grant(caller: Caller, role: Role) -> None:
    if role not in GRANTABLE_BY.get(caller.role, frozenset()):
        raise ForbiddenError(
            f"role {caller.role.value} may not make or revoke tokens of role {role.value}; an admin may "
            "(on the founder, or with: swarmctl token create --role admin there, then swarmctl login here)",
            role=caller.role.value,
        )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _state(record: records.Token, now_s: float) -> str:
    if record.revoked:
        return "revoked"
    if record.expires_at_s and now_s >= record.expires_at_s:
        return "expired"
    if record.uses and record.used >= record.uses:
        return "used_up"
    return "active"


def _read(kv: KeyValue, now_s: float) -> TokenFacts:
    return _facts(records.Token.FromString(kv.value), now_s, kv.mod_revision)


def _facts(record: records.Token, now_s: float, revision: int) -> TokenFacts:
    return TokenFacts(
        TokenId(record.id),
        parse_role(record.role),
        record.uses,
        record.used,
        record.expires_at_s,
        record.created_at_s,
        _state(record, now_s),
        record.created_by,
        revision,
    )
