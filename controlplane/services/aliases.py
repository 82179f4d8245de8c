"""Further names of models, as people set them (`aliases/<name>`); the route controller compiles them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controlplane.core.names import is_model_name
from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.catalog import Catalog, ModelFacts
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation, Mutations
from controlplane.store.port import Delete, KeyValue, Put, Store, modified
from swarmplane.aliases import MOST_WILD, WILD, is_pattern
from swarmplane.codec import records
from swarmplane.errors import AlreadyExistsError, ConflictError, InvalidRequestError, NotFoundError
from swarmplane.ids import ModelName
from swarmplane.routes import RouteTable

MOST_ALIASES: Final = 1_000
"""In a swarm: they travel in the routes of their models."""


@dataclass(frozen=True, slots=True)
class AliasFacts:
    """An alias, and how its model is."""

    name: str
    model: ModelName
    state: str
    """ready, loading, absent, unknown; hidden: a model has this name itself."""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class AliasPage:
    """Some aliases, ordered by name."""

    aliases: tuple[AliasFacts, ...]
    revision: int
    last: str
    """Key after which the next page begins; empty: nothing follows."""


class Aliases:
    """Reads and sets them."""

    def __init__(self, store: Store, mutations: Mutations, catalog: Catalog) -> None:
        self._store = store
        self._mutations = mutations
        self._catalog = catalog

    async def page(self, *, after: str, limit: int, revision: int) -> AliasPage:
        """Aliases after the key ``after``, as of ``revision`` (0: now); states are those of now."""
        found = await self._store.range(keyspace.ALIASES, start_after=after, limit=limit, revision=revision)
        last = found.items[-1].key if found.more and found.items else ""
        table = self._catalog.table()
        aliases = tuple(_read(kv, table) for kv in found.items)
        return AliasPage(aliases, found.revision, last)

    async def set(
        self,
        caller: Caller,
        name: str,
        model: str,
        *,
        expected_revision: int,
        repeat: Repeat,
        encode: Callable[[AliasFacts], bytes],
    ) -> Committed:
        """Let the model that answers to ``model`` answer to ``name`` too.

        Raises:
            InvalidRequestError: ``name`` can be no alias.
            AlreadyExistsError: A model has this name itself, and would win.
            NotFoundError: Nobody knows ``model``.
            ConflictError: The alias is not at ``expected_revision`` (0: any), or there are too many.
        """
        _check(name)
        target, table = await self._target(model), self._catalog.table()
        if not is_pattern(name) and table.named(name) is not None:
            raise AlreadyExistsError(f"a model is called {name!r}; names of models win over aliases")

        async def plan() -> Mutation:
            key = keyspace.alias(name)
            kv = await self._store.get(key)
            at = kv.mod_revision if kv is not None else 0
            if expected_revision not in {0, at}:
                raise _moved(name, at)
            if kv is None and await self._count() >= MOST_ALIASES:
                raise ConflictError(f"there are {MOST_ALIASES} aliases already; a pattern may replace some")
            record = records.parse(records.Alias, kv.value if kv is not None else b"")
            changed = record.model != target
            record.model = target
            return Mutation(
                (modified(key, at),),
                (Put(key, record.SerializeToString()),) if changed else (),
                "alias.set",
                name,
                f"{name} is answered by {target}",
                encode(AliasFacts(name, target, _state(name, target, table))),
                at,
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def remove(
        self, caller: Caller, name: str, *, expected_revision: int, repeat: Repeat, response: bytes
    ) -> Committed:
        """Delete the alias ``name``.

        Raises:
            NotFoundError: There is none.
            ConflictError: It is not at ``expected_revision`` (0: any).
        """
        key = keyspace.alias(name)

        async def plan() -> Mutation:
            kv = await self._store.get(key)
            if kv is None:
                raise NotFoundError(f"there is no alias {name!r}; see: swarmctl alias list")
            if expected_revision not in {0, kv.mod_revision}:
                raise _moved(name, kv.mod_revision)
            model = records.parse(records.Alias, kv.value).model
            return Mutation(
                (modified(key, kv.mod_revision),),
                (Delete(key),),
                "alias.remove",
                name,
                f"{name} is no longer answered by {model}",
                response,
            )

        return await self._mutations.commit(caller.subject.id, plan, repeat)

    async def _target(self, model: str) -> ModelName:
        """The canonical name of the model that answers to ``model``; an alias that was just set counts."""
        if self._catalog.table().named(model) is None and model:
            kv = await self._store.get(keyspace.alias(model))
            if kv is not None:
                return ModelName(records.parse(records.Alias, kv.value).model)
        return self._catalog.find(model).route.name

    async def _count(self) -> int:
        return len((await self._store.range(keyspace.ALIASES, limit=MOST_ALIASES)).items)


def _read(kv: KeyValue, table: RouteTable) -> AliasFacts:
    name = keyspace.name_below(keyspace.ALIASES, kv.key)
    model = ModelName(records.parse(records.Alias, kv.value).model)
    return AliasFacts(name, model, _state(name, model, table), kv.mod_revision)


def _state(name: str, model: ModelName, table: RouteTable) -> str:
    if not is_pattern(name) and table.named(name) is not None:
        return "hidden"
    route = table.find(model)
    return ModelFacts(route, ()).state if route is not None else "unknown"


def _check(name: str) -> None:
    if not is_model_name(ModelName(name)):
        raise InvalidRequestError(
            f"{name[:64]!r} can be no alias: 1 to 256 printable characters", param="name"
        )
    if name.count(WILD) > MOST_WILD:
        raise InvalidRequestError(f"a pattern has at most {MOST_WILD} stars", param="name")


def _moved(name: str, at: int) -> ConflictError:
    return ConflictError(f"the alias {name!r} is at revision {at}", revision=str(at))
