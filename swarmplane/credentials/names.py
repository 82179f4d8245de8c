"""Who a certificate names, and the names that callers verify (PROTOCOL section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from swarmplane.ids import NodeId, SubjectId, SwarmId, is_node_name

CONTROL_NAME: Final = "control.swarmplane.internal"
"""On every instance's certificate, so that control-plane addresses may change."""
JOIN_NAME: Final = "join.swarmplane"
"""On every instance's certificate, for callers that do not know the swarm yet."""
_USER: Final = "user:"
_CONTROL: Final = "control"
_INSTANCE: Final = "control:"


class Profile(Enum):
    """What kind of subject a certificate names."""

    NODE = "node"
    CONTROL = "control"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Subject:
    """One node, one instance of the control plane, or one person, of one swarm."""

    profile: Profile
    name: str
    """The node's id, the person's name, or the instance's: the id of the node beside it, where there is one.

    Nothing: the control plane as such, which is also what instances of earlier versions call themselves.
    """
    swarm: SwarmId

    @property
    def san(self) -> str:
        """The DNS name that stands for it in a certificate."""
        if self.profile is Profile.CONTROL and not self.name:
            return f"{_CONTROL}.{self.swarm}"
        return f"{self.name}.{self.profile.value}.{self.swarm}"

    @property
    def id(self) -> SubjectId:
        """As in records, audit and the deny list: a node id, ``control:<name>``, or ``user:<name>``."""
        if self.profile is Profile.CONTROL:
            return SubjectId(f"{_INSTANCE}{self.name}" if self.name else _CONTROL)
        return SubjectId(f"{_USER}{self.name}" if self.profile is Profile.USER else self.name)


def node_subject(node: NodeId, swarm: SwarmId) -> Subject:
    """The subject of a node."""
    return Subject(Profile.NODE, node, swarm)


def control_subject(swarm: SwarmId, name: str = "") -> Subject:
    """The subject of the instance ``name`` of ``swarm``; without one: of the control plane as such."""
    return Subject(Profile.CONTROL, name, swarm)


def instance_id(name: str) -> SubjectId:
    """As :attr:`Subject.id`, of the instance ``name`` of any swarm."""
    return control_subject(SwarmId(""), name).id


def user_subject(name: str, swarm: SwarmId) -> Subject:
    """The subject of a person."""
    return Subject(Profile.USER, name, swarm)


def node_server_name(node: NodeId, swarm: SwarmId) -> str:
    """The name to verify when calling ``node``: ``server_hostname`` of a TLS connection to a peer."""
    return node_subject(node, swarm).san


def parse_san(text: str) -> Subject | None:
    """The subject a DNS name stands for; None for other names, as :data:`CONTROL_NAME`."""
    labels = text.split(".")
    if not all(is_node_name(label) for label in labels):
        return None
    match labels:
        case ["control", swarm]:
            return control_subject(SwarmId(swarm))
        case [name, "control", swarm]:
            return control_subject(SwarmId(swarm), name)
        case [name, "node", swarm]:
            return node_subject(NodeId(name), SwarmId(swarm))
        case [name, "user", swarm]:
            return user_subject(name, SwarmId(swarm))
        case _:
            return None
