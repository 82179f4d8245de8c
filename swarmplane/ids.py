"""Names of things, kept apart by type: a node id is never mistaken for a model name."""

from __future__ import annotations

import re
import secrets
from typing import Final, NewType

SwarmId = NewType("SwarmId", str)
NodeId = NewType("NodeId", str)
"""Lower-case base32 of a random number, 13 characters; part of certificate names."""
ModelName = NewType("ModelName", str)
"""Canonical name of a language model, as users ask for it; any printable text up to 256 characters."""
BackendName = NewType("BackendName", str)
"""Name of an inference server on its node, unique there."""
EndpointId = NewType("EndpointId", str)
"""``<node id>/<backend>/<model as the backend spells it>``; unique in a swarm."""
SubjectId = NewType("SubjectId", str)
"""Who a certificate names: a node id, ``control``, or a person's name with ``user:`` before it."""
InstanceId = NewType("InstanceId", str)
TokenId = NewType("TokenId", str)
RequestId = NewType("RequestId", str)

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


def random_id(bits: int = 65) -> str:
    """Lower-case base32 text of ``bits`` random bits (a multiple of 5), safe in DNS names and paths.

    65 bits (13 characters) make a clash among 10 million ids a one in a million event.
    """
    return "".join(secrets.choice(_ALPHABET) for _ in range(bits // 5))


def endpoint_id(node: NodeId, backend: BackendName, model: str) -> EndpointId:
    """The id of ``model`` as served by ``backend`` on ``node``."""
    return EndpointId(f"{node}/{backend}/{model}")


def is_node_name(text: str) -> bool:
    """Whether ``text`` is a DNS label: lower-case letters, digits and inner dashes, 1 to 63 of them."""
    return _NODE_NAME.match(text) is not None
