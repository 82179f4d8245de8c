"""Enrolment: a join token's use for a certificate, in one transaction; refused, it leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from controlplane.services import keyspace
from controlplane.services.authority import SwarmAuthority
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation, Mutations
from controlplane.services.naming import check_name, claim_node_name, free_person_name
from controlplane.services.openness import Openness
from controlplane.services.roles import Role
from controlplane.services.tokens import Spending, Tokens
from controlplane.store.port import Compare, Put, Store, absent, modified
from swarmplane.codec import records
from swarmplane.credentials import csr
from swarmplane.credentials.names import Subject, control_subject, node_subject, user_subject
from swarmplane.errors import FailedPreconditionError, InvalidRequestError, UnauthenticatedError
from swarmplane.ids import NodeId, SubjectId, TokenId, random_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_LABEL_KEY: Final = re.compile(r"[a-z0-9./_-]{1,63}\Z")
_LABEL_VALUE: Final = 253
_LABELS: Final = 64
_PROFILES: Final = {"node": "a node", "instance": "an instance", "person": "a person"}
_USES: Final = {
    "node": ", use it with: swarmctl join ADDRESS",
    "instance": ", use it with: swarmctl join ADDRESS --etcd URL,...",
    "person": ", use it with: swarmctl login ADDRESS",
}
_TOKENS: Final = {
    "node": "swarmctl token create",
    "instance": "swarmctl token create --role instance",
    "person": "swarmctl token create --role operator",
}
_SUBJECT: Final = SubjectId("enrolment")


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody without a certificate asks for."""

    token_id: TokenId
    """Empty towards an open swarm."""
    secret: str = field(repr=False)
    csr_der: bytes
    name: str
    labels: Mapping[str, str]
    profile: str = ""
    """``node``, ``instance`` or ``person``; empty: any."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What it gets."""

    certificate_pem: bytes
    subject: Subject
    role: Role
    name: str
    """Differs from the wish after a clash; empty for an instance."""
    swarm_secret: bytes = field(default=b"", repr=False)
    """To role ``instance`` alone."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """A name in the swarm, and what takes it."""

    subject: Subject
    name: str
    compares: tuple[Compare, ...] = ()
    operations: tuple[Put, ...] = ()


class Enrolment:
    """See the module."""

    def __init__(
        self,
        store: Store,
        authority: SwarmAuthority,
        tokens: Tokens,
        mutations: Mutations,
        unix_s: Callable[[], float],
    ) -> None:
        self._store = store
        self._authority = authority
        self._tokens = tokens
        self._mutations = mutations
        self._unix_s = unix_s
        self.openness = Openness(store, mutations)
        """Whether nodes may enrol without a token."""

    async def enroll(
        self, wish: Wish, *, request_id: str, fingerprint: bytes, encode: Callable[[Enrolled], bytes]
    ) -> Committed:
        """Spend a use of the token and enrol a new node, person or instance.

        The same ``request_id`` with the same request gets the same answer and spends one use.

        Raises:
            UnauthenticatedError: The token is no good; see :meth:`Tokens.spend`.
            InvalidRequestError: The request, a name or a label is malformed, or the token makes something
                else than what is wished.
        """
        public_key = csr.public_key_of(wish.csr_der)
        check_labels(wish.labels)
        if wish.name:
            check_name(wish.name)
        check_profile(wish.profile)

        async def plan() -> Mutation:
            spending = await self._spending(wish)
            check_role(wish.profile, spending.role)
            claim = await self._claim(wish, spending)
            enrolled = self._enrolled(claim, spending.role, public_key)
            return Mutation(
                (*spending.compares, *claim.compares),
                (*spending.operations, *claim.operations),
                f"{spending.role.value}.enroll",
                claim.subject.id,
                f"enrolled {claim.name or 'an instance'} as {spending.role.value}",
                encode(enrolled),
            )

        actor = SubjectId(f"token:{wish.token_id}" if wish.token_id else "anybody")
        repeat = Repeat(_SUBJECT, f"{wish.token_id}/{request_id}" if request_id else "", fingerprint)
        return await self._mutations.commit(actor, plan, repeat)

    async def _spending(self, wish: Wish) -> Spending:
        state = await self.openness.state()
        if wish.token_id:
            spending = await self._tokens.spend(wish.token_id, wish.secret)
            if state.open and spending.role is Role.NODE:
                raise FailedPreconditionError(
                    "this swarm is open: nodes join it without a token (it was not spent). Leave it out, or "
                    "have the swarm closed: swarmctl enrolment close"
                )
            return spending
        if not state.open:
            raise UnauthenticatedError(
                "this swarm takes nodes with a token only. On its founder: swarmctl token create; then here: "
                "swarmctl join ADDRESS --token-file FILE",
                token="missing",  # noqa: S106 - says that there is none
            )
        if wish.profile not in {"", "node"}:
            raise InvalidRequestError(
                f"an open swarm makes nodes only, not {_PROFILES[wish.profile]}; a token for this: "
                f"{_TOKENS[wish.profile]}"
            )
        # Closed meanwhile, the swarm takes nobody: the state is part of the transaction.
        return Spending(TokenId(""), Role.NODE, (modified(keyspace.SWARM, state.revision),), ())

    async def _claim(self, wish: Wish, spending: Spending) -> _Claim:
        match spending.role:
            case Role.NODE:
                return await self._claim_node(wish, spending.token)
            case Role.INSTANCE:
                return _Claim(control_subject(self._authority.swarm, random_id()), "")
            case Role.ADMIN | Role.OPERATOR | Role.VIEWER:
                return await self._claim_person(wish, spending.role)

    async def _claim_node(self, wish: Wish, token: TokenId) -> _Claim:
        node = NodeId(random_id())
        name, name_guard, name_put = await claim_node_name(self._store, node, wish.name or "node")
        first = not (await self._store.range(keyspace.NODES, limit=1)).items
        record = records.Node(
            id=node,
            name=name,
            labels=dict(wish.labels),
            enrolled_at_s=int(self._unix_s()),
            token_id=token,
            # `up` enrols the founder's own host before it tells anybody how to join.
            founder=first,
        )
        key = keyspace.node(node)
        return _Claim(
            node_subject(node, self._authority.swarm),
            name,
            (name_guard, absent(key)),
            (name_put, Put(key, record.SerializeToString())),
        )

    async def _claim_person(self, wish: Wish, role: Role) -> _Claim:
        if wish.labels:
            raise InvalidRequestError("labels are for nodes; this token enrols a person")
        swarm = self._authority.swarm
        name = await free_person_name(self._store, swarm, wish.name or role.value)
        record = records.Person(name=name, role=role.value, enrolled_at_s=int(self._unix_s()))
        key, subject = keyspace.person(name), user_subject(name, swarm)
        guards = (absent(key), absent(keyspace.denied(subject.id)))
        return _Claim(subject, name, guards, (Put(key, record.SerializeToString()),))

    def _enrolled(self, claim: _Claim, role: Role, public_key: ec.EllipticCurvePublicKey) -> Enrolled:
        certificate = self._authority.certificate(public_key, claim.subject, self._unix_s())
        secret = self._authority.secret.value if role is Role.INSTANCE else b""
        return Enrolled(certificate, claim.subject, role, claim.name, secret)


def profile_of(role: Role) -> str:
    """What a token of ``role`` makes: a node, an instance or a person."""
    return role.value if role in {Role.NODE, Role.INSTANCE} else "person"


def check_profile(profile: str) -> None:
    """That ``profile`` is one.

    Raises:
        InvalidRequestError: It is not.
    """
    if profile and profile not in _PROFILES:
        raise InvalidRequestError(f"profile {profile[:80]!r}: say one of {', '.join(_PROFILES)}")


def check_role(profile: str, role: Role) -> None:
    """That a token of ``role`` makes what is wished; before it is spent.

    Raises:
        InvalidRequestError: It does not; names the command for this token, and the token for this command.
    """
    made = profile_of(role)
    if profile in {"", made}:
        return
    raise InvalidRequestError(
        f"this token makes {_PROFILES[made]} ({role.value}), not {_PROFILES[profile]}; it was not spent"
        f"{_USES[made]}. A token for this: {_TOKENS[profile]}",
        role=role.value,
    )


def check_labels(labels: Mapping[str, str]) -> None:
    """That labels are few, short and spelled as the contract says.

    Raises:
        InvalidRequestError: They are not.
    """
    if len(labels) > _LABELS:
        raise InvalidRequestError(f"a node has at most {_LABELS} labels")
    for key, value in labels.items():
        if not _LABEL_KEY.match(key) or len(value) > _LABEL_VALUE or not (value.isprintable() or not value):
            raise InvalidRequestError(
                f"label {key[:80]!r}: a name has 1 to 63 of a-z 0-9 . / _ -, a value at most {_LABEL_VALUE} "
                "printable characters"
            )
