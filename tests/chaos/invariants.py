"""What must hold of a run's histories, whatever was done to its processes. Pure.

Seconds are all of one clock, the runner's. Every function returns sentences that say what was violated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

LEASE_S = 10.0
REMOVAL_S = 2.0
"""A route to a node that is gone is gone so long after its lease."""

TOLD_S = 3.0
"""A watcher is told of what happens at most so late, but while it has no contact."""
JUST_S = 0.3
PAUSE_S = 15.0
"""A sidecar that has long lost all instances pauses for so long, at most, between two tries (PROTOCOL 2)."""
LOOKED_S = 3.0
"""A look at a table that is older says nothing."""


@dataclass(frozen=True)
class Span:
    """From when to when something was so."""

    begins_s: float
    ends_s: float

    def meets(self, other: Span) -> bool:
        """Whether they have a moment in common."""
        return self.begins_s <= other.ends_s and other.begins_s <= self.ends_s


@dataclass(frozen=True)
class Write:
    """One change of one key in the store's history. ``fields``: what of its value matters; None: deleted."""

    revision: int
    key: str
    fields: Mapping[str, object] | None
    before: Mapping[str, object] | None = None
    at_s: float = 0.0
    """When a watcher was told; late while it had no contact."""


ELECTION, EPOCH = "elections/controller", "epochs/controller"
DECIDED = ("routes/",)
"""Nobody but the controller writes below these."""


@dataclass(frozen=True)
class Claim:
    """What an instance says of a guarded write that it did."""

    instance: str
    revision: int
    epoch: int


def one_controller(history: Sequence[Write], claims: Iterable[Claim] = ()) -> list[str]:
    """Each epoch has one holder, epochs rise, and only who holds the election writes what it decides."""
    found: list[str] = []
    holder: Mapping[str, object] | None = None
    granted: dict[object, tuple[object, int]] = {}
    epochs: list[int] = []
    standing: dict[int, object] = {}
    for revision, writes in _revisions(history):
        before = holder
        for write in writes:
            if write.key == ELECTION:
                if write.fields is not None and holder is not None:
                    found.append(f"revision {revision}: {write.fields} took the place of {holder}")
                holder = write.fields
            if write.key == EPOCH and write.fields is not None:
                epochs.append(int(str(write.fields["value"])))
        if holder is not None and before is None:
            epoch = holder["epoch"]
            if epoch in granted:
                found.append(f"revision {revision}: epoch {epoch} again: {granted[epoch]}, {holder}")
            granted[epoch] = (holder["instance_id"], revision)
            if not epochs or epochs[-1] != epoch:
                found.append(f"revision {revision}: epoch {epoch}, but the counter says {epochs[-1:]}")
        for write in writes:
            if write.key.startswith(DECIDED) or _is_decision(write):
                standing[revision] = (before or {}).get("epoch")
                if before is None or holder is None:
                    found.append(f"revision {revision}: {write.key} was decided while nobody was elected")
    found += [f"epochs went from {a} to {b}" for a, b in pairwise(epochs) if b <= a]
    for claim in claims:
        if standing.get(claim.revision, claim.epoch) != claim.epoch:
            found.append(
                f"revision {claim.revision}: written by {claim.instance} as of epoch {claim.epoch}, "
                f"while {standing[claim.revision]} stood"
            )
    return found


def _is_decision(write: Write) -> bool:
    """Whether it is the removal of a node."""
    now, before = write.fields or {}, write.before or {}
    return write.key.startswith("nodes/") and bool(now.get("gone")) and not before.get("gone")


def _revisions(history: Sequence[Write]) -> Iterable[tuple[int, list[Write]]]:
    grouped: dict[int, list[Write]] = {}
    for write in history:
        grouped.setdefault(write.revision, []).append(write)
    return sorted(grouped.items())


def same_history(watched: Sequence[Write], read: Sequence[Write]) -> list[str]:
    """A watcher that lived through it all was told exactly what the history holds: each once, in order."""
    told = [(one.revision, one.key) for one in watched]
    held = [(one.revision, one.key) for one in read]
    found = []
    if len(set(told)) != len(told):
        found.append(f"told twice: {sorted({one for one in told if told.count(one) > 1})[:5]}")
    if [one[0] for one in told] != sorted(one[0] for one in told):
        found.append("a watch went back")
    if missed := sorted(set(held) - set(told)):
        found.append(f"{len(missed)} never told: {missed[:5]}")
    if invented := sorted(set(told) - set(held)):
        found.append(f"{len(invented)} told that the history does not have: {invented[:5]}")
    return found


def no_ghosts(history: Sequence[Write]) -> list[str]:
    """What was removed comes back by a new session only, and what was deleted never."""
    found: list[str] = []
    deleted: set[str] = set()
    gone: dict[str, int] = {}
    session: dict[str, int] = {}
    routed: dict[str, frozenset[str]] = {}
    for revision, writes in _revisions(history):
        for write in writes:
            kind, _, name = write.key.partition("/")
            if kind == "members" and write.fields is not None:
                session[name] = revision
        for write in writes:
            kind, _, name = write.key.partition("/")
            if kind in {"nodes", "members"} and write.fields is not None and name in deleted:
                found.append(f"revision {revision}: {write.key} is back after it was deleted")
            if kind == "nodes":
                if write.fields is None:
                    deleted.add(name)
                    gone[name] = revision
                elif write.fields.get("gone"):
                    gone.setdefault(name, revision)
                elif (since := gone.pop(name, 0)) and session.get(name, 0) <= since:
                    found.append(f"revision {revision}: {write.key} is back without a new session")
            if kind == "routes":
                now = frozenset(map(str, (write.fields or {}).get("nodes", ())))  # type: ignore[call-overload]
                back = {node for node in now - routed.get(name, frozenset()) if node in gone}
                if back:
                    found.append(f"revision {revision}: {write.key} leads to removed nodes: {sorted(back)}")
                routed[name] = now
    return found


def no_mass_removal(
    history: Sequence[Write], downs: Mapping[str, Sequence[Span]], *, hold_s: float, lease_s: float = LEASE_S
) -> list[str]:
    """Who was left alone is never removed; those whose leases end together are, after the hold only.

    Args:
        history: With the times at which a watcher was told, never early.
        downs: When each node's process was disturbed.
        hold_s: How long removals are held after a mass loss.
        lease_s: A node that was let go may still lose its lease, or may not have tried yet to get one again.
    """
    found: list[str] = []
    late_s = max(lease_s, PAUSE_S)
    vanished_s: dict[str, float] = {}
    removals: list[tuple[str, float, float]] = []
    for write in history:
        kind, _, name = write.key.partition("/")
        if kind == "members" and write.fields is None:
            vanished_s[name] = write.at_s
        if not _is_decision(write):
            continue
        if not any(s.begins_s <= write.at_s <= s.ends_s + late_s for s in downs.get(name, ())):
            found.append(f"{write.at_s:.1f} s: {name} was removed, and nothing had been done to it")
        removals.append((name, vanished_s.get(name, write.at_s), write.at_s))
    for (first, one_s, gone_s), (second, other_s, also_s) in combinations(removals, 2):
        last_s = max(one_s, other_s)
        # Watchers are told late; leases that end that far apart may be told of in another order.
        if first == second or abs(one_s - other_s) > lease_s - TOLD_S:
            continue
        for name, own_s, at_s in ((first, one_s, gone_s), (second, other_s, also_s)):
            # The first to vanish may have been removed just before the other one was known to vanish.
            known = own_s == last_s or at_s > last_s + JUST_S
            if known and at_s < last_s + hold_s - TOLD_S:
                found.append(f"{at_s:.1f} s: {first} and {second} vanished together; {name} was not held")
    return found


@dataclass(frozen=True)
class Sample:
    """What a sidecar's table said at a moment: nodes to which it has routes."""

    at_s: float
    sidecar: str
    nodes: frozenset[str]
    connected: bool = True
    """Whether it had a control stream."""
    instance: str = ""
    """To whom."""


@dataclass(frozen=True)
class Circumstances:
    """What may delay a removal."""

    leader_changes_s: Sequence[float] = ()
    """When etcd got another leader."""
    blind: Sequence[Span] = ()
    """When nobody could decide: no controller, or a store without a majority."""
    holds: Sequence[Span] = ()
    """While removals were held."""
    removal_s: float = REMOVAL_S


def vacancies(stepped_down_s: Iterable[float], elected_s: Iterable[float]) -> list[Span]:
    """From when a controller stopped by its own clock, which the store does not show, to the next one."""
    elected = sorted(elected_s)
    return [Span(at_s, min((e for e in elected if e > at_s), default=at_s)) for at_s in stepped_down_s]


def waits(told: Iterable[tuple[float, bool]], lease_s: float = LEASE_S) -> list[Span]:
    """While a controller waited whether others vanish, too; a lease at most.

    ``told``: at which moments it waited from then on, and at which no longer.
    """
    ordered = sorted(told)
    found = []
    for place, (at_s, waiting) in enumerate(ordered):
        if waiting:
            later = next((over_s for over_s, _ in ordered[place + 1 :]), at_s + lease_s)
            found.append(Span(at_s, min(later, at_s + lease_s)))
    return found


def deadline_s(down_s: float, given: Circumstances, lease_s: float = LEASE_S) -> float:
    """Until when routes may lead to a node that went down at ``down_s`` and stays so."""
    ends_s = 0.0
    wanted_s = down_s + lease_s + given.removal_s
    while wanted_s > ends_s:
        ends_s = wanted_s
        changes = sum(down_s - lease_s <= at_s <= ends_s for at_s in given.leader_changes_s)
        blind_s = sum(
            min(span.ends_s, ends_s) - max(span.begins_s, down_s)
            for span in given.blind
            if span.begins_s < ends_s and span.ends_s > down_s
        )
        wanted_s = down_s + lease_s + given.removal_s + changes * lease_s + blind_s
        for span in given.holds:
            if span.begins_s <= wanted_s <= span.ends_s + given.removal_s:
                wanted_s = span.ends_s + given.removal_s
    return ends_s


def no_stale_routes(
    samples: Iterable[Sample],
    downs: Mapping[str, Sequence[Span]],
    given: Circumstances,
    *,
    settle_s: float = REMOVAL_S,
    lease_s: float = LEASE_S,
) -> list[str]:
    """No sidecar that was left alone has a route to a node that is down for too long.

    One without a stream knows nothing new: that is in order while nobody could welcome it, or it was itself
    disturbed, and until its next try. Nor does one that is connected to a disturbed instance.
    """
    found: list[str] = []

    def within(spans: Iterable[Span], at_s: float, more_s: float) -> bool:
        return any(s.begins_s <= at_s <= s.ends_s + more_s for s in spans)

    for sample in samples:
        own = downs.get(sample.sidecar, ())
        tells = downs.get(sample.instance, ()) if sample.connected else ()
        if within((*own, *tells), sample.at_s, settle_s):
            continue
        if not sample.connected and within((*own, *given.blind), sample.at_s, PAUSE_S + settle_s):
            continue
        for node in sample.nodes:
            for span in downs.get(node, ()):
                until_s = deadline_s(span.begins_s, given, lease_s)
                if until_s < sample.at_s < span.ends_s:
                    found.append(
                        f"{sample.at_s:.1f} s: {sample.sidecar} has a route to {node}, down since "
                        f"{span.begins_s:.1f} s; allowed until {until_s:.1f} s"
                    )
    return found


@dataclass(frozen=True)
class Request:
    """One request as its client saw it. ``served``: the node that its answer names."""

    entry: str
    model: str
    span: Span
    fine: bool
    served: str = ""
    said: str = ""


def no_failed_requests(
    requests: Iterable[Request],
    downs: Mapping[str, Sequence[Span]],
    serving: Mapping[str, Sequence[str]],
    samples: Iterable[Sample] = (),
    *,
    settle_s: float = REMOVAL_S,
) -> tuple[list[str], int]:
    """Violations, and how many failures were excused: by their entry, or by the node that was answering.

    Where no node is named, one that was up and in the entry's table when that was last looked at would have
    done: a node that was removed needs the control plane to come back.
    """
    found: list[str] = []
    tables: dict[str, list[Sample]] = {}
    for sample in samples:
        tables.setdefault(sample.sidecar, []).append(sample)

    def known(entry: str, name: str, at_s: float) -> bool:
        before = [one for one in tables.get(entry, ()) if at_s - LOOKED_S <= one.at_s <= at_s]
        return not before or name in before[-1].nodes

    excused = 0

    def up(name: str, span: Span) -> bool:
        return not any(
            Span(down.begins_s, down.ends_s + settle_s).meets(span) for down in downs.get(name, ())
        )

    for request in requests:
        if request.fine:
            continue
        entered = up(request.entry, request.span)
        served = (
            up(request.served, request.span)
            if request.served
            else any(
                up(name, request.span) and known(request.entry, name, request.span.begins_s)
                for name in serving[request.model]
            )
        )
        if entered and served:
            found.append(
                f"{request.span.begins_s:.1f} s: {request.model} at {request.entry} by "
                f"{request.served or 'nobody'}: {request.said}"
            )
        else:
            excused += 1
    return found, excused


@dataclass(frozen=True)
class Mutation:
    """What a client asked for: afterwards ``subject`` is ``value``. None: it does not exist."""

    subject: str
    value: str | None
    acknowledged: bool
    at_s: float = 0.0


def nothing_lost(mutations: Sequence[Mutation], end: Mapping[str, str]) -> list[str]:
    """Each subject is as its last acknowledged mutation left it, or as one of unknown outcome did.

    Those may be done late: a frozen instance does after a while what it was asked to.
    """
    acknowledged: dict[str, str | None] = {}
    unknown: dict[str, list[str | None]] = {}
    for mutation in mutations:
        if mutation.acknowledged:
            acknowledged[mutation.subject] = mutation.value
        else:
            unknown.setdefault(mutation.subject, []).append(mutation.value)
    return [
        f"{subject} is {end.get(subject)!r}; acknowledged as {value!r}, unknown {unknown.get(subject, [])}"
        for subject, value in sorted(acknowledged.items())
        if end.get(subject) not in [value, *unknown.get(subject, [])]
    ]
