"""Who calls: the subject its certificate names, and the role that the store gives it."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.services import keyspace
from controlplane.services.mirror import Mirror
from controlplane.services.roles import PEOPLE, Role, parse_role
from controlplane.store.port import Store
from swarmplane.codec import records
from swarmplane.credentials.names import Profile, Subject
from swarmplane.errors import ForbiddenError, UnauthenticatedError
from swarmplane.ids import NodeId, SwarmId


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, proven, and what it may be."""

    subject: Subject
    role: Role

    @property
    def node(self) -> NodeId | None:
        """The node's id, if a node calls."""
        return NodeId(self.subject.name) if self.subject.profile is Profile.NODE else None

    def check_acts_on(self, node: NodeId) -> None:
        """That a node acts on itself only; roles of others were checked before.

        Raises:
            ForbiddenError: The caller is another node.
        """
        if self.node is not None and self.node != node:
            raise ForbiddenError(
                f"a node's certificate acts on that node only; {operator_hint()}", role=self.role.value
            )


def operator_hint() -> str:
    """What to do when a role does not suffice."""
    return (
        "to act on the swarm, make a token where you may (swarmctl token create --role operator) and "
        "log in with it here: swarmctl login ADDRESS --token-file FILE"
    )


class Callers:
    """Looks subjects up in the store, so that a decision about one counts from its commit on."""

    def __init__(self, store: Store, swarm: SwarmId, mirror: Mirror | None = None) -> None:
        self._store = store
        self._swarm = swarm
        self._mirror = mirror

    async def identify(self, subject: Subject) -> Caller:
        """The caller that ``subject``, proven by a certificate of our CA, is.

        Raises:
            UnauthenticatedError: It is of another swarm, was removed, or nobody knows it.
        """
        if subject.swarm != self._swarm:
            raise UnauthenticatedError("the certificate is of another swarm")
        await self.check_not_denied(subject)
        return Caller(subject, await self._role(subject))

    async def recall(self, subject: Subject) -> Caller:
        """As :meth:`identify`, from memory where that knows a node: for calls that check it as they write.

        Raises:
            UnauthenticatedError: As the store says, which is asked before anybody is refused.
        """
        known = self._mirror is not None and (
            subject.profile is Profile.NODE
            and subject.swarm == self._swarm
            and subject.name in self._mirror.below(keyspace.NODES)
            and subject.id not in self._mirror.below(keyspace.DENIALS)
        )
        return Caller(subject, Role.NODE) if known else await self.identify(subject)

    async def check_not_denied(self, subject: Subject) -> None:
        """That no certificate of ``subject`` was revoked.

        Raises:
            UnauthenticatedError: It was.
        """
        if await self._store.get(keyspace.denied(subject.id)) is not None:
            raise UnauthenticatedError(
                f"{subject.id} was removed from this swarm; join or log in again with a new token",
                subject=subject.id,
            )

    async def _role(self, subject: Subject) -> Role:
        match subject.profile:
            case Profile.CONTROL:
                return Role.INSTANCE
            case Profile.NODE:
                if await self._store.get(keyspace.node(NodeId(subject.name))) is not None:
                    return Role.NODE
            case Profile.USER:
                kv = await self._store.get(keyspace.person(subject.name))
                role = parse_role(records.Person.FromString(kv.value).role) if kv is not None else None
                if role in PEOPLE:
                    return role
        raise UnauthenticatedError(f"this swarm does not know {subject.id}; join or log in again")
