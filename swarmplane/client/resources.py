"""What a program does with a swarm, asynchronously: one class for each kind of thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final, TypeVar

from swarmplane.client import calls
from swarmplane.client.calls import Call
from swarmplane.client.following import Following, FollowingEvents, Position
from swarmplane.client.retrying import ELSEWHERE
from swarmplane.client.transport import Transport
from swarmplane.client.values import (
    Alias,
    Change,
    Election,
    Enrolment,
    Event,
    Model,
    NewToken,
    Node,
    Policy,
    Token,
)
from swarmplane.clock import SystemClock
from swarmplane.errors import Code, SwarmError, UnavailableError
from swarmplane.explanation import RouteExplanation
from swarmplane.ids import random_id
from swarmplane.operation import Operation
from swarmplane.routes import ModelRoute

C = TypeVar("C")
LOOK_S: Final = 0.3
"""Between two looks at an operation that runs."""
GIVE_UP_S: Final = 300.0
"""How long a watch goes without hearing from any control plane."""


class AsyncNodes:
    """Hosts of the swarm. ``name`` is a node's name or id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Node]:
        """All nodes, by id; pages are fetched as they are wanted."""
        return self._transport.items(calls.list_nodes)

    async def get(self, name: str) -> Node:
        """One node.

        Raises:
            NotFoundError: There is none.
        """
        return await self._transport.call(calls.get_node(name))

    async def cordon(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> Node:
        """Send no new requests there."""
        return await self._transport.call(
            calls.cordon_node(name, request_id or random_id(), expected_revision)
        )

    async def uncordon(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> Node:
        """Undo cordon and drain."""
        return await self._transport.call(
            calls.uncordon_node(name, request_id or random_id(), expected_revision)
        )

    async def drain(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> Operation:
        """Cordon, and wait for what runs: the operation that does, see :meth:`AsyncOperations.wait`."""
        return await self._transport.call(
            calls.drain_node(name, request_id or random_id(), expected_revision)
        )

    async def remove(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> str:
        """Delete a node and refuse its certificate from now on; its id."""
        return await self._transport.call(
            calls.remove_node(name, request_id or random_id(), expected_revision)
        )


class AsyncModels:
    """Language models of the swarm."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Model]:
        """All models, by name."""
        return self._transport.items(calls.list_models)

    async def get(self, name: str) -> Model:
        """One model, by name or alias.

        Raises:
            NotFoundError: No node knows it.
        """
        return await self._transport.call(calls.get_model(name))

    async def pull(self, name: str, *, node: str = "", request_id: str = "") -> Operation:
        """Have ``node`` pull a model; empty: where it fits best. See :meth:`Operations.wait`."""
        return await self._transport.call(calls.pull_model(name, node, request_id or random_id()))


class AsyncRoutes:
    """Where requests go."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[ModelRoute]:
        """Compiled routes, by model name."""
        return self._transport.items(calls.list_routes)

    def watch(self, revision: int = 0, *, give_up_s: float = GIVE_UP_S) -> AsyncIterator[Change[ModelRoute]]:
        """Every route as it stands (0), or changes from ``revision`` on; then changes, without end.

        It goes on at another control plane when one ends; where the history was compacted it lists again
        and tells the difference. Bookmarks say up to which revision nothing was missed.

        Raises:
            UnavailableError: Nobody was heard for ``give_up_s``.
        """
        following: Following[ModelRoute] = Following(revision, lambda route: route.revision)
        return _watch(self._transport, following, calls.watch_routes, give_up_s)

    async def explain(self, model: str, *, prompt_tokens: int = 0, node: str = "") -> RouteExplanation:
        """Whom a node (empty: any) would ask for ``model``, at what cost, and why not the others."""
        return await self._transport.call(calls.explain(model, prompt_tokens, node))


class AsyncElections:
    """Who decides, of several control planes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Election]:
        """Elections, by name."""
        return self._transport.items(calls.list_elections)

    def watch(self, revision: int = 0, *, give_up_s: float = GIVE_UP_S) -> AsyncIterator[Change[Election]]:
        """As :meth:`AsyncRoutes.watch`, of elections."""
        following: Following[Election] = Following(revision, lambda election: election.revision)
        return _watch(self._transport, following, calls.watch_elections, give_up_s)


class AsyncEvents:
    """What happens in the swarm."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def watch(self, *kinds: str, revision: int = 0, give_up_s: float = GIVE_UP_S) -> AsyncIterator[Event]:
        """Events of ``kinds`` (``node.gone``, ``node.*``; none: all) from ``revision`` on (0: now).

        What was compacted is gone: an event of kind ``gap`` says so, and the watch goes on from now.

        Raises:
            UnavailableError: Nobody was heard for ``give_up_s``.
        """

        def ask(revision: int) -> Call[Event]:
            return calls.watch_events(revision, kinds)

        return _watch(self._transport, FollowingEvents(revision), ask, give_up_s)


class AsyncAliases:
    """Further names of models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Alias]:
        """Aliases, by name."""
        return self._transport.items(calls.list_aliases)

    async def set(self, name: str, model: str, *, request_id: str = "", expected_revision: int = 0) -> Alias:
        """Let ``model`` answer to ``name``, in which ``*`` stands for any characters.

        Raises:
            NotFoundError: Nobody knows ``model``.
            AlreadyExistsError: A model has this name itself.
        """
        return await self._transport.call(
            calls.set_alias(name, model, request_id or random_id(), expected_revision)
        )

    async def remove(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> str:
        """Delete an alias; its name.

        Raises:
            NotFoundError: There is none.
        """
        return await self._transport.call(
            calls.remove_alias(name, request_id or random_id(), expected_revision)
        )


class AsyncPolicies:
    """What people want of balancing."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Policy]:
        """The swarm's policy, then those set for models, by name."""
        return self._transport.items(calls.list_policies)

    async def get(self, model: str = "") -> Policy:
        """The policy of ``model``; empty: the swarm's."""
        return await self._transport.call(calls.get_policy(model))

    async def apply(
        self, *policies: Policy, request_id: str = "", expected_revision: int = 0
    ) -> tuple[Policy, ...]:
        """Set ``policies``, all at once, and return them as they stand; others stay as they are.

        Args:
            policies: At most 90; their revisions play no part.
            request_id: The same one within 10 minutes gets the same answer; empty: a new one.
            expected_revision: Of the one policy given; refused (conflict) if it was changed since.
        """
        return await self._transport.call(
            calls.apply_policies(policies, request_id or random_id(), expected_revision)
        )


class AsyncTokens:
    """Join tokens."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Token]:
        """Join tokens without their secrets, by id."""
        return self._transport.items(calls.list_tokens)

    async def create(
        self, role: str = "node", *, uses: int | None = None, ttl_s: int | None = None, request_id: str = ""
    ) -> NewToken:
        """A new join token; 0 uses: no limit; 0 seconds: until revoked; None: one use, a day."""
        return await self._transport.call(calls.create_token(role, uses, ttl_s, request_id or random_id()))

    async def enrolment(self) -> Enrolment:
        """Whether nodes enrol without a token."""
        return await self._transport.call(calls.get_enrolment())

    async def set_enrolment(
        self, *, is_open: bool, request_id: str = "", expected_revision: int = 0
    ) -> Enrolment:
        """Let nodes enrol without a token (an open swarm), or end that. Who is enrolled stays."""
        return await self._transport.call(
            calls.set_enrolment(is_open, request_id or random_id(), expected_revision)
        )

    async def revoke(self, token_id: str, *, request_id: str = "", expected_revision: int = 0) -> Token:
        """End a token at once. Who was enrolled with it stays."""
        return await self._transport.call(
            calls.revoke_token(token_id, request_id or random_id(), expected_revision)
        )


class AsyncOperations:
    """Acts that take longer than a call."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[Operation]:
        """Operations of the last day, newest first."""
        return self._transport.items(calls.list_operations)

    async def get(self, operation_id: str) -> Operation:
        """One operation.

        Raises:
            NotFoundError: None of the last day has this id.
        """
        return await self._transport.call(calls.get_operation(operation_id))

    async def cancel(self, operation_id: str, *, request_id: str = "") -> Operation:
        """Ask a running one to stop; others stay as they are."""
        return await self._transport.call(calls.cancel_operation(operation_id, request_id or random_id()))

    async def wait(
        self,
        operation: Operation,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Operation], None] | None = None,
    ) -> Operation:
        """``operation`` at its end: done, failed or cancelled, which its ``state`` says.

        Args:
            operation: As it was answered.
            timeout_s: Longest wait; None: until it ends.
            on_progress: Told of every step.

        Raises:
            UnavailableError: With code ``request_timeout``: it still runs. Waiting ended, not the operation.
        """
        clock = SystemClock()
        ends_s = clock.now_s() + timeout_s if timeout_s is not None else None
        told: Operation | None = None
        while True:
            if on_progress is not None and operation != told:
                on_progress(operation)
                told = operation
            if operation.state != "running":
                return operation
            if ends_s is not None and clock.now_s() >= ends_s:
                raise still_running(operation, timeout_s)
            left_s = LOOK_S if ends_s is None else ends_s - clock.now_s()
            await clock.sleep(min(LOOK_S, max(left_s, 0.0)))
            operation = await self.get(operation.id)


def still_running(operation: Operation, timeout_s: float | None) -> UnavailableError:
    """What waiting ends with."""
    return UnavailableError(
        f"{operation.kind} of {operation.subject} still runs after {timeout_s or 0:g} s",
        code=Code.REQUEST_TIMEOUT,
        operation=operation.id,
    )


async def _watch(
    transport: Transport, position: Position[C], ask: Callable[[int], Call[C]], give_up_s: float
) -> AsyncIterator[C]:
    clock = SystemClock()
    heard_s, failures = clock.now_s(), 0
    while True:
        try:
            start = position.resume()
            if start is None:
                for one in position.begin(await transport.call(calls.nodes_revision())):
                    yield one
                start = position.resume()
            async with aclosing(transport.stream(ask(start or 0))) as changes:
                async for change in changes:
                    heard_s, failures = clock.now_s(), 0
                    if position.went_back(change):
                        position.restart()
                        break
                    for one in position.take(change):
                        yield one
        except SwarmError as error:
            if error.code is Code.COMPACTED:
                position.restart()
            elif error.code not in ELSEWHERE or clock.now_s() - heard_s > give_up_s:
                raise
        failures += 1
        await transport.pause(failures)
