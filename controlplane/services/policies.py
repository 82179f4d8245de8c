"""What people want of balancing: for the swarm (`policies/swarm`) and for single models (`models/<name>`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controlplane.core.fallbacks import check_fallbacks
from controlplane.core.names import is_model_name
from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation, Mutations
from controlplane.store.port import Compare, Delete, KeyValue, Operation, Put, Store, modified
from swarmplane.codec import records
from swarmplane.errors import ConflictError, InvalidRequestError
from swarmplane.fallbacks import NO_FALLBACKS, FallbackPolicy
from swarmplane.ids import ModelName
from swarmplane.policies import CONTEXT_PROTECTIONS, STRATEGIES

MOST_TOGETHER: Final = 90
"""Policies set in one transaction."""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What holds for ``model``, or for the swarm where that is empty."""

    model: str
    strategy: str = ""
    revision: int = 0
    """Of the last change; 0: never set."""
    chain: tuple[str, ...] = ()
    """Of a model: who may answer where it can't."""
    fallbacks: FallbackPolicy = NO_FALLBACKS
    """Of the swarm."""
    context: str = ""
    """What is done about requests that make a server load a model again with another context; empty: for a
    model as the swarm, for the swarm ``strip``."""


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """Some policies, ordered by model; the swarm's stands in front of the first page."""

    policies: tuple[PolicyFacts, ...]
    revision: int
    last: str
    """Key after which the next page begins; empty: nothing follows."""


class Policies:
    """Reads and sets them; the route controller and the pushes act on what stands in the store."""

    def __init__(self, store: Store, mutations: Mutations) -> None:
        self._store = store
        self._mutations = mutations

    async def get(self, model: str) -> PolicyFacts:
        """The policy of ``model``; empty: of the swarm. What was never set is empty."""
        return _read(model, await self._store.get(_key(model)))

    async def page(self, *, after: str, limit: int, revision: int) -> PolicyPage:
        """The policies that are set for models, and first of all the swarm's, as of ``revision`` (0: now)."""
        found = await self._store.range(keyspace.MODELS, start_after=after, limit=limit, revision=revision)
        models = tuple(_read(keyspace.name_below(keyspace.MODELS, kv.key), kv) for kv in found.items)
        first = () if after else (await self.get(""),)
        return PolicyPage(
            (*first, *models), found.revision, found.items[-1].key if found.more and found.items else ""
        )

    async def apply(
        self,
        caller: Caller,
        wanted: Sequence[PolicyFacts],
        *,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[Sequence[PolicyFacts]], bytes],
    ) -> Committed:
        """Set all of ``wanted`` at once.

        Raises:
            InvalidRequestError: A strategy or a model's name is none, or a policy is named twice.
            ConflictError: The one policy is not at ``expected_revision`` (0: any).
        """
        _check(wanted, expected_revision)

        async def plan() -> Mutation:
            compares: list[Compare] = []
            operations: list[Operation] = []
            for one in wanted:
                key = _key(one.model)
                kv = await self._store.get(key)
                at = kv.mod_revision if kv is not None else 0
                if expected_revision not in {0, at}:
                    message = f"the policy is at revision {at}, not {expected_revision}"
                    raise ConflictError(message, revision=str(at))
                operation = _change(one, key, kv)
                if operation is not None:
                    compares.append(modified(key, at))
                    operations.append(operation)
            names = ", ".join(one.model or "the swarm" for one in wanted)
            return Mutation(
                tuple(compares),
                tuple(operations),
                "policy.apply",
                wanted[0].model if len(wanted) == 1 else "",
                f"set the policy of {names}"[:256],
                encode([replace(one, revision=0) for one in wanted]),
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)


def _check(wanted: Sequence[PolicyFacts], expected_revision: int) -> None:
    if not 0 < len(wanted) <= MOST_TOGETHER:
        raise InvalidRequestError(f"give 1 to {MOST_TOGETHER} policies", param="policies")
    if expected_revision and len(wanted) > 1:
        raise InvalidRequestError("expected_revision goes with a single policy", param="expected_revision")
    if len({one.model for one in wanted}) < len(wanted):
        raise InvalidRequestError("a policy is named twice", param="policies")
    for one in wanted:
        if one.model and not is_model_name(ModelName(one.model)):
            raise InvalidRequestError(f"{one.model[:64]!r} is no name of a model", param="model")
        if one.strategy and one.strategy not in STRATEGIES:
            known = ", ".join(sorted(STRATEGIES))
            raise InvalidRequestError(
                f"{one.strategy[:64]!r} is no strategy; use one of {known}", param="strategy"
            )
        if one.context and one.context not in CONTEXT_PROTECTIONS:
            known = ", ".join(sorted(CONTEXT_PROTECTIONS))
            message = f"{one.context[:64]!r} is no way to protect contexts; use one of {known}"
            raise InvalidRequestError(message, param="context_protection")
        check_fallbacks(one.model, one.chain, one.fallbacks)


def _key(model: str) -> str:
    return keyspace.model(ModelName(model)) if model else keyspace.SWARM_POLICY


def _read(model: str, kv: KeyValue | None) -> PolicyFacts:
    if kv is None:
        return PolicyFacts(model)
    if not model:
        swarm = records.parse(records.SwarmPolicy, kv.value)
        fallbacks = records.fallbacks_of(swarm)
        return PolicyFacts(
            model,
            swarm.default_strategy,
            kv.mod_revision,
            fallbacks=fallbacks,
            context=swarm.context_protection,
        )
    record = records.parse(records.Model, kv.value)
    return PolicyFacts(
        model,
        record.strategy,
        kv.mod_revision,
        tuple(record.fallbacks),
        context=record.context_protection,
    )


def _change(wanted: PolicyFacts, key: str, kv: KeyValue | None) -> Operation | None:
    """What sets it, keeping fields that this version does not know; None: it is so already."""
    before = kv.value if kv is not None else b""
    if wanted.model:
        model = records.parse(records.Model, before)
        model.strategy = wanted.strategy
        model.fallbacks[:] = wanted.chain
        model.context_protection = wanted.context
        after = model.SerializeToString()
    else:
        swarm = records.parse(records.SwarmPolicy, before)
        swarm.default_strategy = wanted.strategy
        swarm.context_protection = wanted.context
        records.set_fallbacks(swarm, wanted.fallbacks)
        after = swarm.SerializeToString()
    if after == before:
        return None
    return Put(key, after) if after else Delete(key)
