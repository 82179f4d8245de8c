"""Pulls that people order: as those that requests cause, with an operation that tells how they go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from controlplane.core.names import is_model_name
from controlplane.core.pulling import MOST_RUNNING, Place, best_place
from controlplane.services import keyspace
from controlplane.services.callers import Caller
from controlplane.services.dedupe import Repeat
from controlplane.services.mutations import Committed, Mutation
from controlplane.services.operations import Operations
from controlplane.services.pulls import KIND, Pulls, read_pull
from controlplane.store.port import Put, modified
from swarmplane.codec import records
from swarmplane.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidRequestError,
    NotFoundError,
)
from swarmplane.operation import Operation
from swarmplane.pulls import RUNNING

_NOBODY: Final = "no connected node has an Ollama server, which could pull a model"


class AskedPulls:
    """See the module."""

    def __init__(self, pulls: Pulls, operations: Operations) -> None:
        self._pulls = pulls
        self._operations = operations

    async def begin(
        self, caller: Caller, model: str, node: str, *, repeat: Repeat, encode: Callable[[Operation], bytes]
    ) -> Committed:
        """Have ``model`` pulled to ``node``, by id or name (empty: where it fits best), or join its pull.

        Raises:
            InvalidRequestError: It can't be a model's name.
            NotFoundError: No connected node is called so.
            FailedPreconditionError: Nobody can pull it, or too many pulls run.
            ConflictError: It is being pulled to another node.
        """
        if not is_model_name(model):
            raise InvalidRequestError(f"{model[:64]!r} can't be a model's name", param="model")
        prepared: list[Operation] = []

        async def plan() -> Mutation:
            kv = await self._pulls.kept(model)
            pull = read_pull(kv) if kv is not None else records.Pull()
            present = await self._told_by(pull)
            if self._pulls.goes_on(pull):
                self._check_same(pull, model, node)
                if present is not None:
                    return Mutation((), (), "", model, "", encode(present), kv.mod_revision if kv else 0)
            else:
                pull = self._new(model, node)
            if present is not None and not prepared:
                prepared.append(present)  # who waits for the pull that broke off waits on
            if not prepared:
                prepared.append(self._operations.new(KIND, model))
            pull.operation_id = prepared[0].id
            key = keyspace.pull(model)
            return Mutation(
                (modified(key, kv.mod_revision if kv is not None else 0),),
                (
                    Put(key, pull.SerializeToString()),
                    *self._pulls.surplus(model),
                    await self._operations.kept(prepared[0]),
                ),
                "model.pull",
                model,
                f"{pull.node_id} pulls {model}",
                encode(prepared[0]),
            )

        return await self._operations.ordered(caller, plan, repeat)

    async def _told_by(self, pull: records.Pull) -> Operation | None:
        """The operation that tells of a pull; None: there is none, or it is over."""
        if pull.state != RUNNING or not pull.operation_id:
            return None
        with contextlib.suppress(NotFoundError):
            found = await self._operations.get(pull.operation_id)
            return found if found.state == RUNNING else None
        return None

    def _new(self, model: str, node: str) -> records.Pull:
        running = self._pulls.running()
        if len(running) >= MOST_RUNNING:
            raise FailedPreconditionError(
                f"{len(running)} pulls run already; {model} has to wait for one to end"
            )
        place = best_place(self._places(node, running))
        if place is None:
            raise FailedPreconditionError(
                _NOBODY if not node else f"{node} has no Ollama server that answers"
            )
        return records.Pull(node_id=place[0], backend=place[1], state=RUNNING, at_s=self._pulls.now_s)

    def _places(self, node: str, running: list[records.Pull]) -> Iterator[Place]:
        found = [place for place in self._pulls.places(running) if not node or self._is(place.node, node)]
        if node and not found:
            raise NotFoundError(f"no connected node is called {node[:64]!r}, or it takes no requests")
        yield from found

    def _check_same(self, pull: records.Pull, model: str, node: str) -> None:
        if node and not self._is(pull.node_id, node):
            raise ConflictError(
                f"{model} is being pulled to {self._pulls.name_of(pull.node_id)}; wait for that"
            )

    def _is(self, node_id: str, node: str) -> bool:
        return node in {node_id, self._pulls.name_of(node_id)}
