"""Every key of the store, in one place (DESIGN section 5). A store holds one swarm: keys have no prefix."""

from __future__ import annotations

from typing import Final

from swarmplane.errors import InvalidRequestError
from swarmplane.ids import InstanceId, ModelName, NodeId, SubjectId, TokenId

SWARM: Final = "swarm"
GENERATION: Final = "store/generation"
CA_KEY: Final = "ca/key"
SWARM_POLICY: Final = "policies/swarm"

MEMBERS: Final = "members/"
INSTANCES: Final = "instances/"
DOUBTS: Final = "doubts/"
NODES: Final = "nodes/"
NODE_NAMES: Final = "node-names/"
INVENTORIES: Final = "inventory/"
MODELS: Final = "models/"
ALIASES: Final = "aliases/"
PULLS: Final = "pulls/"
ROUTES: Final = "routes/"
TOKENS: Final = "tokens/"
KEYS: Final = "keys/"
PEOPLE: Final = "people/"
DENIALS: Final = "denied/"
REQUESTS: Final = "requests/"
AUDITS: Final = "audit/"
OPERATIONS: Final = "operations/"
POLICIES: Final = "policies/"
EPOCHS: Final = "epochs/"
ELECTIONS: Final = "elections/"

_LONGEST: Final = 512


def _below(prefix: str, name: str) -> str:
    # Model names may hold slashes; an empty or endless name, or a control character, is nobody's.
    if not name or len(name) > _LONGEST or not name.isprintable():
        raise InvalidRequestError("a name must have 1 to 512 printable characters")
    return prefix + name


def member(node: NodeId) -> str:
    """``members/<node>``: present while its session lasts, and the lease of its instance lives."""
    return _below(MEMBERS, node)


def instance(instance_id: InstanceId) -> str:
    """``instances/<id>``: present while the instance's lease lives."""
    return _below(INSTANCES, instance_id)


def doubts(instance_id: InstanceId) -> str:
    """``doubts/<id>``: nodes that the instance has not heard for a while."""
    return _below(DOUBTS, instance_id)


def node(node_id: NodeId) -> str:
    """``nodes/<node>``: identity, labels and decisions."""
    return _below(NODES, node_id)


def node_name(name: str) -> str:
    """``node-names/<name>``: id of the node that has the name; what makes names unique under races."""
    return _below(NODE_NAMES, name)


def inventory(node_id: NodeId) -> str:
    """``inventory/<node>``: what the node said it has."""
    return _below(INVENTORIES, node_id)


def model(name: ModelName) -> str:
    """``models/<name>``: what is wanted of a model."""
    return _below(MODELS, name)


def alias(name: str) -> str:
    """``aliases/<name>``: a further name of a model, or a pattern."""
    return _below(ALIASES, name)


def pull(model: str) -> str:
    """``pulls/<model>``: who pulls it, and how that goes."""
    return _below(PULLS, model)


def route(name: ModelName) -> str:
    """``routes/<name>``: compiled."""
    return _below(ROUTES, name)


def token(token_id: TokenId) -> str:
    """``tokens/<id>``."""
    return _below(TOKENS, token_id)


def api_key(key_id: str) -> str:
    """``keys/<id>``: an API key of clients."""
    return _below(KEYS, key_id)


def person(name: str) -> str:
    """``people/<name>``."""
    return _below(PEOPLE, name)


def denied(subject: SubjectId) -> str:
    """``denied/<subject>``: no certificate of this subject is good."""
    return _below(DENIALS, subject)


def request(subject: SubjectId, request_id: str) -> str:
    """``requests/<subject>/<id>``: what a mutation answered, for ten minutes."""
    return _below(f"{REQUESTS}{subject}/", request_id)


def audit(ulid: str) -> str:
    """``audit/<ulid>``: ordered by time."""
    return _below(AUDITS, ulid)


def operation(ulid: str) -> str:
    """``operations/<ulid>``: ordered by time."""
    return _below(OPERATIONS, ulid)


def election(name: str) -> str:
    """``elections/<name>``: present while its holder's lease lives."""
    return _below(ELECTIONS, name)


def epoch(group: str) -> str:
    """``epochs/<group>``: durable fencing counter."""
    return _below(EPOCHS, group)


def name_below(prefix: str, key: str) -> str:
    """The part of ``key`` after ``prefix``, which it must begin with."""
    if not key.startswith(prefix):
        raise ValueError(f"{key!r} is not below {prefix!r}")
    return key[len(prefix) :]
