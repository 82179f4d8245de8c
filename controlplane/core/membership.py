"""Who is live, suspected or gone (PROTOCOL section 2). Lease end is evidence, removal is a decision."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from swarmplane.ids import InstanceId, NodeId


@dataclass(frozen=True, slots=True)
class MembershipPolicy:
    """Figures of membership; see ``ControlSettings``."""

    suspect_s: float = 5.0
    lease_ttl_s: float = 10.0
    removal_hold_s: float = 60.0
    mass_ratio: float = 0.3
    """Share of the swarm that may vanish within one lease before removals are held."""
    mass_floor: int = 1
    """So many may always vanish."""
    pause_s: float = 1.0
    """A gap of our own that is longer says that our evidence is stale."""

    @property
    def instance_lease_s(self) -> float:
        """How long the memberships of an instance outlive it (ADR 23).

        Long enough for who lives to notice that its instance does not, and to come back at another one.
        With :attr:`doubt_s` before it, it is little more than a lease: for who fell silent and whose
        instance died before it wrote that down.
        """
        return self.lease_ttl_s * 0.7

    @property
    def doubt_s(self) -> float:
        """After so much silence the instance writes it down: from then on the removal does not need it."""
        return self.lease_ttl_s * 0.35

    @property
    def orphan_s(self) -> float:
        """Several who lost their instance, and of whom nobody said that they are silent, have so much longer.

        They are on their way to another instance, and in a large swarm they stand in line there.
        """
        return self.lease_ttl_s * 0.4

    @property
    def forsaken_s(self) -> float:
        """After so much silence the instance ends the membership itself: nobody removed the node."""
        return self.lease_ttl_s * 1.1


class Standing(Enum):
    """How a node stands, for people."""

    NEVER = "never"
    """Enrolled, not seen yet."""
    LIVE = "live"
    SUSPECT = "suspect"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the instance that holds a node's stream saw of it."""

    heard_s: float
    """When its last message came."""
    reset: bool = False
    """Whether its stream broke without a farewell."""
    excused_until_s: float = float("-inf")
    """Until then its silence says nothing."""


def was_silent(sighting: Sighting, now_s: float, for_s: float) -> bool:
    """Whether the node behind ``sighting`` was not heard for ``for_s``, and could have been."""
    return now_s - sighting.heard_s >= for_s and now_s >= sighting.excused_until_s


def is_silent(sighting: Sighting, now_s: float, policy: MembershipPolicy) -> bool:
    """Whether the node behind ``sighting`` is to be suspected."""
    return sighting.reset or was_silent(sighting, now_s, policy.suspect_s)


def excused(sighting: Sighting, gap_s: float, now_s: float, policy: MembershipPolicy) -> Sighting:
    """``sighting`` after this process stood still for ``gap_s``, which is over now.

    What came meanwhile lies in its sockets and is read in a moment; after a gap in which the lease of the
    instance may have ended, everybody has to find its way back first.
    """
    grace_s = policy.pause_s if gap_s < policy.instance_lease_s else policy.suspect_s
    return replace(sighting, excused_until_s=now_s + grace_s)


def standing(*, seen: bool, gone: bool, present: bool, suspected: bool) -> Standing:
    """How a node stands.

    Args:
        seen: It was connected at some time.
        gone: It was decided gone.
        present: Its lease lives.
        suspected: As evidence has it.
    """
    if not seen:
        return Standing.NEVER
    if gone:
        return Standing.GONE
    return Standing.LIVE if present and not suspected else Standing.SUSPECT


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a node's present session."""

    incarnation: str
    instance: InstanceId


def may_connect(
    holder: Holder | None,
    incarnation: str,
    *,
    own: InstanceId,
    live: AbstractSet[InstanceId],
    silent: bool | None,
) -> bool:
    """Whether a process that says Hello may have the node's session; else it is a second live process.

    Args:
        holder: None: the node has no lease.
        incarnation: Of the process that asks.
        own: This instance.
        live: Instances that live, this one too.
        silent: What is known of the holder's stream, here or from the instance that has it; None: nothing.
    """
    if holder is None or holder.incarnation == incarnation:
        return True
    if holder.instance == own:
        return silent is None or silent
    # Only the named instance knows whether the holder lives; without it nobody renews that lease.
    return holder.instance not in live or silent is True


_EMPTY: Final[Mapping[Any, Any]] = MappingProxyType({})


def _none() -> Mapping[Any, Any]:
    return _EMPTY


@dataclass(frozen=True, slots=True)
class Removals:
    """What is known of lost leases. Start with the default, then :func:`observe`."""

    absent_since_s: Mapping[NodeId, float] = field(default_factory=_none)
    vanished_s: Mapping[NodeId, float] = field(default_factory=_none)
    """Nodes whose lease ended within the last lease time, those already removed too."""
    held_until_s: float = float("-inf")
    waiting: frozenset[NodeId] = frozenset()
    """Whose removal waits for what becomes of others that are in doubt."""


def hold(state: Removals, now_s: float, policy: MembershipPolicy) -> Removals:
    """After an outage of the store or of all instances, or a pause of our own: evidence is stale."""
    return replace(state, held_until_s=max(state.held_until_s, now_s + policy.removal_hold_s))


def observe(
    state: Removals,
    present: AbstractSet[NodeId],
    absent: AbstractSet[NodeId],
    now_s: float,
    policy: MembershipPolicy,
    doubtful: AbstractSet[NodeId] = frozenset(),
    orphaned: AbstractSet[NodeId] = frozenset(),
) -> tuple[Removals, frozenset[NodeId]]:
    """The next state, and the nodes to be removed now.

    Leases of nodes that vanish together end one after another, so the first lost ones wait, for at most a
    lease, while so many others are in doubt that together they would be a mass loss.

    Args:
        state: The last one.
        present: Nodes with a lease.
        absent: Nodes without one, or silent for one, that were seen and are not decided gone.
        now_s: Of one clock throughout.
        policy: Figures.
        doubtful: Those of ``present`` that are suspected: their leases may be about to end.
        orphaned: Those of ``absent`` of whom nobody said that they are silent: their instance is gone.
    """
    fresh = absent - state.absent_since_s.keys()
    recent = {n: at_s for n, at_s in state.vanished_s.items() if now_s - at_s < policy.lease_ttl_s}
    recent.update(dict.fromkeys(fresh, now_s))
    crowd = fresh & orphaned
    later_s = now_s + (policy.orphan_s if len(crowd) > policy.mass_floor else 0.0)
    since = {node: state.absent_since_s.get(node, later_s if node in crowd else now_s) for node in absent}
    state = Removals(MappingProxyType(since), MappingProxyType(recent), state.held_until_s)
    population = len(present | recent.keys())
    limit = max(policy.mass_floor, policy.mass_ratio * population)
    if fresh and len(recent) > limit:
        state = hold(state, now_s, policy)
    if now_s < state.held_until_s:
        return state, frozenset()
    wait_s = policy.lease_ttl_s if doubtful and len(recent.keys() | doubtful) > limit else 0.0
    due = frozenset(node for node in absent if now_s - since[node] >= wait_s)
    return replace(state, waiting=frozenset(absent - due)), due
