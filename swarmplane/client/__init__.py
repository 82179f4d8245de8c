"""A typed client of a swarm's control planes, for programs: what ``swarmctl`` is built on.

:class:`AsyncClient` is for asyncio, :class:`Client` for everything else; they have the same methods. See
``docs/how-to/automate.md``.
"""

from swarmplane.client.clients import AsyncClient, Client
from swarmplane.client.key_resources import Key, NewKey
from swarmplane.client.retrying import Retry
from swarmplane.client.values import (
    Alias,
    Change,
    Election,
    Enrolment,
    Event,
    Model,
    NewToken,
    Node,
    NodeBackend,
    Policy,
    PushState,
    Replica,
    Token,
)
from swarmplane.credentials.files import Credential
from swarmplane.explanation import ExplainedEndpoint, RouteExplanation
from swarmplane.fallbacks import FallbackPolicy, FallbackRule
from swarmplane.operation import Operation
from swarmplane.routes import Endpoint, ModelRoute, Version

__all__ = [
    "Alias",
    "AsyncClient",
    "Change",
    "Client",
    "Credential",
    "Election",
    "Endpoint",
    "Enrolment",
    "Event",
    "ExplainedEndpoint",
    "FallbackPolicy",
    "FallbackRule",
    "Key",
    "Model",
    "ModelRoute",
    "NewKey",
    "NewToken",
    "Node",
    "NodeBackend",
    "Operation",
    "Policy",
    "PushState",
    "Replica",
    "Retry",
    "RouteExplanation",
    "Token",
    "Version",
]
