"""What a caller may be; which act needs which role stands in one table, in ``rpc/authorization.py``."""

from __future__ import annotations

from enum import Enum
from typing import Final

from swarmplane.errors import InvalidRequestError


class Role(Enum):
    """Roles of people, and the two of machines."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    NODE = "node"
    INSTANCE = "instance"


PEOPLE: Final = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})
GRANTABLE_BY: Final = {
    Role.ADMIN: frozenset(Role),
    # A token of a higher role, or the swarm secret that an instance gets, would make an operator an admin.
    Role.OPERATOR: frozenset({Role.OPERATOR, Role.VIEWER, Role.NODE}),
}
"""Roles of the tokens that a role may make or revoke; none for those left out."""


def parse_role(text: str) -> Role:
    """The role named ``text``.

    Raises:
        InvalidRequestError: There is no such role.
    """
    try:
        return Role(text)
    except ValueError:
        names = ", ".join(role.value for role in Role)
        raise InvalidRequestError(f"{text!r} is no role; write one of {names}") from None
