"""Which role may call which method: one table, and what it does not name is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.services.callers import Caller, operator_hint
from controlplane.services.roles import Role
from swarmplane.errors import ForbiddenError

_EVERYBODY: Final = frozenset(Role)
_READERS: Final = _EVERYBODY
_OPERATORS: Final = frozenset({Role.ADMIN, Role.OPERATOR})
# A node acts on itself only: the services check which node (Caller.check_acts_on).
_OPERATORS_AND_THE_NODE: Final = _OPERATORS | {Role.NODE}
_V1: Final = "/swarmplane.v1."

ALLOWED: Final[Mapping[str, frozenset[Role]]] = {
    f"{_V1}CertificateService/Renew": _EVERYBODY,
    f"{_V1}SidecarService/Connect": frozenset({Role.NODE}),
    f"{_V1}NodeService/List": _READERS,
    f"{_V1}NodeService/Get": _READERS,
    f"{_V1}NodeService/Cordon": _OPERATORS_AND_THE_NODE,
    f"{_V1}NodeService/Drain": _OPERATORS_AND_THE_NODE,
    f"{_V1}NodeService/Uncordon": _OPERATORS_AND_THE_NODE,
    f"{_V1}NodeService/Remove": _OPERATORS_AND_THE_NODE,
    f"{_V1}ModelService/List": _READERS,
    f"{_V1}ModelService/Get": _READERS,
    f"{_V1}ModelService/Pull": _OPERATORS,
    f"{_V1}AliasService/List": _READERS,
    f"{_V1}AliasService/Set": _OPERATORS,
    f"{_V1}AliasService/Remove": _OPERATORS,
    f"{_V1}RouteService/List": _READERS,
    f"{_V1}RouteService/Watch": _READERS,
    f"{_V1}RouteService/Explain": _READERS,
    f"{_V1}PolicyService/List": _READERS,
    f"{_V1}PolicyService/Get": _READERS,
    f"{_V1}PolicyService/Apply": _OPERATORS,
    f"{_V1}ElectionService/List": _READERS,
    f"{_V1}ElectionService/Watch": _READERS,
    f"{_V1}PeerService/Share": frozenset({Role.INSTANCE}),
    f"{_V1}KeyService/Create": _OPERATORS,
    f"{_V1}KeyService/List": _READERS,
    f"{_V1}KeyService/Revoke": _OPERATORS,
    f"{_V1}TokenService/Create": _OPERATORS,
    f"{_V1}TokenService/List": _READERS,
    f"{_V1}TokenService/Revoke": _OPERATORS,
    f"{_V1}TokenService/GetEnrolment": _READERS,
    f"{_V1}TokenService/SetEnrolment": _OPERATORS,
    f"{_V1}EventService/Watch": _READERS,
    f"{_V1}OperationService/Get": _READERS,
    f"{_V1}OperationService/List": _READERS,
    f"{_V1}OperationService/Cancel": _OPERATORS,
    "/grpc.health.v1.Health/Check": _EVERYBODY,
    "/grpc.health.v1.Health/List": _EVERYBODY,
    "/grpc.health.v1.Health/Watch": _EVERYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERYBODY,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _EVERYBODY,
}


def check_allowed(caller: Caller, method: str) -> None:
    """That the caller's role may call ``method`` (``/package.Service/Method``).

    Raises:
        ForbiddenError: It may not; says what would help.
    """
    if caller.role in ALLOWED.get(method, frozenset()):
        return
    name = method.rpartition(".")[2].replace("/", ".")
    raise ForbiddenError(
        f"role {caller.role.value} may not call {name}; {operator_hint()}",
        method=name,
        role=caller.role.value,
    )
