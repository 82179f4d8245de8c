"""What a program does with a swarm, waiting for every answer: one class for each kind of thing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar

from swarmplane.client import calls
from swarmplane.client.blocking_transport import BlockingTransport
from swarmplane.client.calls import Call
from swarmplane.client.following import Following, FollowingEvents, Position
from swarmplane.client.resources import GIVE_UP_S, LOOK_S, still_running
from swarmplane.client.retrying import ELSEWHERE
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
from swarmplane.errors import Code, SwarmError
from swarmplane.explanation import RouteExplanation
from swarmplane.ids import random_id
from swarmplane.operation import Operation
from swarmplane.routes import ModelRoute

C = TypeVar("C")


class Nodes:
    """Hosts of the swarm. ``name`` is a node's name or id."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Node]:
        """All nodes, by id; pages are fetched as they are wanted."""
        return self._transport.items(calls.list_nodes)

    def get(self, name: str) -> Node:
        """One node.

        Raises:
            NotFoundError: There is none.
        """
        return self._transport.call(calls.get_node(name))

    def cordon(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> Node:
        """Send no new requests there."""
        return self._transport.call(calls.cordon_node(name, request_id or random_id(), expected_revision))

    def uncordon(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> Node:
        """Undo cordon and drain."""
        return self._transport.call(calls.uncordon_node(name, request_id or random_id(), expected_revision))

    def drain(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> Operation:
        """Cordon, and wait for what runs: the operation that does, see :meth:`Operations.wait`."""
        return self._transport.call(calls.drain_node(name, request_id or random_id(), expected_revision))

    def remove(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> str:
        """Delete a node and refuse its certificate from now on; its id."""
        return self._transport.call(calls.remove_node(name, request_id or random_id(), expected_revision))


class Models:
    """Language models of the swarm."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Model]:
        """All models, by name."""
        return self._transport.items(calls.list_models)

    def get(self, name: str) -> Model:
        """One model, by name or alias.

        Raises:
            NotFoundError: No node knows it.
        """
        return self._transport.call(calls.get_model(name))

    def pull(self, name: str, *, node: str = "", request_id: str = "") -> Operation:
        """Have ``node`` pull a model; empty: where it fits best. See :meth:`Operations.wait`."""
        return self._transport.call(calls.pull_model(name, node, request_id or random_id()))


class Routes:
    """Where requests go."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[ModelRoute]:
        """Compiled routes, by model name."""
        return self._transport.items(calls.list_routes)

    def watch(self, revision: int = 0, *, give_up_s: float = GIVE_UP_S) -> Iterator[Change[ModelRoute]]:
        """Every route as it stands (0), or changes from ``revision`` on; then changes, without end.

        It goes on at another control plane when one ends; where the history was compacted it lists again
        and tells the difference. Bookmarks say up to which revision nothing was missed.

        Raises:
            UnavailableError: Nobody was heard for ``give_up_s``.
        """
        following: Following[ModelRoute] = Following(revision, lambda route: route.revision)
        return _watch(self._transport, following, calls.watch_routes, give_up_s)

    def explain(self, model: str, *, prompt_tokens: int = 0, node: str = "") -> RouteExplanation:
        """Whom a node (empty: any) would ask for ``model``, at what cost, and why not the others."""
        return self._transport.call(calls.explain(model, prompt_tokens, node))


class Elections:
    """Who decides, of several control planes."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Election]:
        """Elections, by name."""
        return self._transport.items(calls.list_elections)

    def watch(self, revision: int = 0, *, give_up_s: float = GIVE_UP_S) -> Iterator[Change[Election]]:
        """As :meth:`Routes.watch`, of elections."""
        following: Following[Election] = Following(revision, lambda election: election.revision)
        return _watch(self._transport, following, calls.watch_elections, give_up_s)


class Events:
    """What happens in the swarm."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def watch(self, *kinds: str, revision: int = 0, give_up_s: float = GIVE_UP_S) -> Iterator[Event]:
        """Events of ``kinds`` (``node.gone``, ``node.*``; none: all) from ``revision`` on (0: now).

        What was compacted is gone: an event of kind ``gap`` says so, and the watch goes on from now.

        Raises:
            UnavailableError: Nobody was heard for ``give_up_s``.
        """

        def ask(revision: int) -> Call[Event]:
            return calls.watch_events(revision, kinds)

        return _watch(self._transport, FollowingEvents(revision), ask, give_up_s)


class Aliases:
    """Further names of models."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Alias]:
        """Aliases, by name."""
        return self._transport.items(calls.list_aliases)

    def set(self, name: str, model: str, *, request_id: str = "", expected_revision: int = 0) -> Alias:
        """Let ``model`` answer to ``name``, in which ``*`` stands for any characters.

        Raises:
            NotFoundError: Nobody knows ``model``.
            AlreadyExistsError: A model has this name itself.
        """
        return self._transport.call(
            calls.set_alias(name, model, request_id or random_id(), expected_revision)
        )

    def remove(self, name: str, *, request_id: str = "", expected_revision: int = 0) -> str:
        """Delete an alias; its name.

        Raises:
            NotFoundError: There is none.
        """
        return self._transport.call(calls.remove_alias(name, request_id or random_id(), expected_revision))


class Policies:
    """What people want of balancing."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Policy]:
        """The swarm's policy, then those set for models, by name."""
        return self._transport.items(calls.list_policies)

    def get(self, model: str = "") -> Policy:
        """The policy of ``model``; empty: the swarm's."""
        return self._transport.call(calls.get_policy(model))

    def apply(
        self, *policies: Policy, request_id: str = "", expected_revision: int = 0
    ) -> tuple[Policy, ...]:
        """Set ``policies``, all at once, and return them as they stand; others stay as they are.

        Args:
            policies: At most 90; their revisions play no part.
            request_id: The same one within 10 minutes gets the same answer; empty: a new one.
            expected_revision: Of the one policy given; refused (conflict) if it was changed since.
        """
        return self._transport.call(
            calls.apply_policies(policies, request_id or random_id(), expected_revision)
        )


class Tokens:
    """Join tokens."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Token]:
        """Join tokens without their secrets, by id."""
        return self._transport.items(calls.list_tokens)

    def create(
        self, role: str = "node", *, uses: int | None = None, ttl_s: int | None = None, request_id: str = ""
    ) -> NewToken:
        """A new join token; 0 uses: no limit; 0 seconds: until revoked; None: one use, a day."""
        return self._transport.call(calls.create_token(role, uses, ttl_s, request_id or random_id()))

    def enrolment(self) -> Enrolment:
        """Whether nodes enrol without a token."""
        return self._transport.call(calls.get_enrolment())

    def set_enrolment(self, *, is_open: bool, request_id: str = "", expected_revision: int = 0) -> Enrolment:
        """Let nodes enrol without a token (an open swarm), or end that. Who is enrolled stays."""
        return self._transport.call(
            calls.set_enrolment(is_open, request_id or random_id(), expected_revision)
        )

    def revoke(self, token_id: str, *, request_id: str = "", expected_revision: int = 0) -> Token:
        """End a token at once. Who was enrolled with it stays."""
        return self._transport.call(
            calls.revoke_token(token_id, request_id or random_id(), expected_revision)
        )


class Operations:
    """Acts that take longer than a call."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Operation]:
        """Operations of the last day, newest first."""
        return self._transport.items(calls.list_operations)

    def get(self, operation_id: str) -> Operation:
        """One operation.

        Raises:
            NotFoundError: None of the last day has this id.
        """
        return self._transport.call(calls.get_operation(operation_id))

    def cancel(self, operation_id: str, *, request_id: str = "") -> Operation:
        """Ask a running one to stop; others stay as they are."""
        return self._transport.call(calls.cancel_operation(operation_id, request_id or random_id()))

    def wait(
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
        ends_s = time.monotonic() + timeout_s if timeout_s is not None else None
        told: Operation | None = None
        while True:
            if on_progress is not None and operation != told:
                on_progress(operation)
                told = operation
            if operation.state != "running":
                return operation
            if ends_s is not None and time.monotonic() >= ends_s:
                raise still_running(operation, timeout_s)
            left_s = LOOK_S if ends_s is None else ends_s - time.monotonic()
            self._transport.wait(min(LOOK_S, max(left_s, 0.0)))
            operation = self.get(operation.id)


def _watch(
    transport: BlockingTransport, position: Position[C], ask: Callable[[int], Call[C]], give_up_s: float
) -> Iterator[C]:
    heard_s, failures = time.monotonic(), 0
    while not transport.closed:
        try:
            start = position.resume()
            if start is None:
                for one in position.begin(transport.call(calls.nodes_revision())):
                    yield one
                start = position.resume()
            with closing(transport.stream(ask(start or 0))) as changes:
                for change in changes:
                    heard_s, failures = time.monotonic(), 0
                    if position.went_back(change):
                        position.restart()
                        break
                    for one in position.take(change):
                        yield one
        except SwarmError as error:
            if error.code is Code.COMPACTED:
                position.restart()
            elif error.code not in ELSEWHERE or time.monotonic() - heard_s > give_up_s:
                raise
        failures += 1
        transport.pause(failures)
