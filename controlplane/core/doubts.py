"""What an instance writes of nodes that it does not hear (ADR 23)."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from controlplane.core.membership import MembershipPolicy
from swarmplane.ids import NodeId


@dataclass(frozen=True, slots=True)
class Doubt:
    """A session whose node its instance does not hear."""

    node: NodeId
    session: int
    """Revision of its membership."""


def to_write(
    silent: AbstractSet[Doubt], written: AbstractSet[Doubt], population: int, policy: MembershipPolicy
) -> frozenset[Doubt] | None:
    """What an instance should write of its nodes now; None: what is written stands.

    More silence than the loss of single nodes would be held anyway, and most likely it is the instance that
    cannot hear: then nothing is added.

    Args:
        silent: Those not heard for long enough.
        written: What stands there, but for what is void.
        population: Nodes in the swarm.
        policy: Figures.
    """
    many = len(silent) > max(policy.mass_floor, policy.mass_ratio * population)
    wanted = frozenset(silent & written if many else silent)
    return None if wanted == written else wanted
