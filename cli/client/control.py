"""What commands ask a control plane for, as the documents that they print."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from cli.client import documents
from cli.client.documents import Document
from swarmplane.client import AsyncClient, Operation, Policy

_GIVE_UP_S: Final = 15.0
"""How long a command that watches goes on without a control plane: people look, and see that it hangs."""


class ControlClient:
    """One client. Every method raises the :class:`SwarmError` that a failed call means."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def address(self) -> str:
        """The control plane that is asked next."""
        return self._client.address

    async def nodes(self) -> list[Document]:
        """All nodes, by id."""
        return [documents.node(one) async for one in self._client.nodes.list()]

    async def node(self, name: str) -> Document:
        """One node, by id or name."""
        return documents.node(await self._client.nodes.get(name))

    async def cordon(self, name: str) -> Document:
        """Take no new requests there."""
        return documents.node(await self._client.nodes.cordon(name))

    async def uncordon(self, name: str) -> Document:
        """Undo cordon and drain."""
        return documents.node(await self._client.nodes.uncordon(name))

    async def drain(self, name: str) -> Document:
        """Take no new requests there; the operation that waits for those that run."""
        return documents.operation(await self._client.nodes.drain(name))

    async def drained(self, name: str, tell: Callable[[str], None]) -> Document:
        """As :meth:`drain`, at its end, done or not; ``tell`` hears on the way how it goes."""
        return await self._ended(await self._client.nodes.drain(name), tell)

    async def pull(self, name: str, node: str) -> Document:
        """Have a model pulled; the operation."""
        return documents.operation(await self._client.models.pull(name, node=node))

    async def pulled(self, name: str, node: str, tell: Callable[[str], None]) -> Document:
        """As :meth:`pull`, at its end, done or not; ``tell`` hears on the way how it goes."""
        return await self._ended(await self._client.models.pull(name, node=node), tell)

    async def _ended(self, begun: Operation, tell: Callable[[str], None]) -> Document:
        told = ""

        def progressed(operation: Operation) -> None:
            nonlocal told
            if operation.state == "running" and operation.message not in {"", told}:
                told = operation.message
                tell(told)

        return documents.operation(await self._client.operations.wait(begun, on_progress=progressed))

    async def remove_node(self, name: str) -> str:
        """Delete a node and deny its certificate; its id."""
        return await self._client.nodes.remove(name)

    async def models(self) -> list[Document]:
        """All models, by name."""
        return [documents.model(one) async for one in self._client.models.list()]

    async def model(self, name: str) -> Document:
        """One model, by name or alias."""
        return documents.model(await self._client.models.get(name))

    async def aliases(self) -> list[Document]:
        """Further names of models, by name."""
        return [documents.alias(one) async for one in self._client.aliases.list()]

    async def set_alias(self, name: str, model: str) -> Document:
        """Let a model answer to a name, or to a pattern."""
        return documents.alias(await self._client.aliases.set(name, model))

    async def remove_alias(self, name: str) -> str:
        """Delete an alias; its name."""
        return await self._client.aliases.remove(name)

    async def routes(self) -> list[Document]:
        """Compiled routes, by model name."""
        return [documents.route(one) async for one in self._client.routes.list()]

    async def watch_routes(self, revision: int = 0) -> AsyncIterator[Document]:
        """Every route as it stands, or changes from ``revision`` on; then changes, without end."""
        async for change in self._client.routes.watch(revision, give_up_s=_GIVE_UP_S):
            yield documents.route_change(change)

    async def watch_events(self, kinds: Sequence[str], revision: int = 0) -> AsyncIterator[Document]:
        """What happens from ``revision`` on (0: from now on), without end."""
        async for event in self._client.events.watch(*kinds, revision=revision, give_up_s=_GIVE_UP_S):
            yield documents.event(event)

    async def elections(self) -> list[Document]:
        """Elections, by name."""
        return [documents.election(one) async for one in self._client.elections.list()]

    async def watch_elections(self, revision: int = 0) -> AsyncIterator[Document]:
        """Every election as it stands, or changes from ``revision`` on; then changes, without end."""
        async for change in self._client.elections.watch(revision, give_up_s=_GIVE_UP_S):
            yield documents.election_change(change)

    async def explain(self, model: str, prompt_tokens: int, node: str = "") -> Document:
        """Whom ``node`` (empty: any that is connected) would ask for ``model``, and why not the others."""
        found = await self._client.routes.explain(model, prompt_tokens=prompt_tokens, node=node)
        return documents.explanation(found)

    async def policies(self) -> list[Document]:
        """The swarm's policy, then those set for models, by name."""
        return [documents.policy(one) async for one in self._client.policies.list()]

    async def policy(self, model: str) -> Document:
        """What holds for ``model``; empty: for the swarm."""
        return documents.policy(await self._client.policies.get(model))

    async def apply_policies(self, wanted: Sequence[Policy]) -> list[Document]:
        """Set policies of models and of the swarm, all at once."""
        return [documents.policy(one) for one in await self._client.policies.apply(*wanted)]

    async def create_token(self, role: str, uses: int | None, ttl_s: int | None) -> Document:
        """A new join token; ``join_token`` and ``join_addresses`` beside its facts."""
        made = await self._client.tokens.create(role, uses=uses, ttl_s=ttl_s)
        return {
            **documents.token(made.token),
            "join_token": made.join_token,
            "join_addresses": list(made.join_addresses),
        }

    async def create_key(
        self,
        name: str,
        *,
        models: Sequence[str],
        manage: bool,
        requests_per_minute: int,
        tokens_per_day: int,
        concurrency: int,
        ttl_s: int,
    ) -> Document:
        """A new API key; ``key`` beside its facts."""
        made = await self._client.keys.create(
            name,
            models=models,
            manage=manage,
            requests_per_minute=requests_per_minute,
            tokens_per_day=tokens_per_day,
            concurrency=concurrency,
            ttl_s=ttl_s,
        )
        return {**documents.key(made.key), "key": made.secret}

    async def keys(self) -> list[Document]:
        """API keys without their secrets."""
        return [documents.key(one) async for one in self._client.keys.list()]

    async def revoke_key(self, key_id: str) -> str:
        """End an API key at once; its id."""
        return await self._client.keys.revoke(key_id)

    async def tokens(self) -> list[Document]:
        """Join tokens without their secrets."""
        return [documents.token(one) async for one in self._client.tokens.list()]

    async def enrolment(self) -> Document:
        """Whether nodes enrol without a token."""
        return documents.enrolment(await self._client.tokens.enrolment())

    async def set_enrolment(self, *, is_open: bool) -> Document:
        """Let nodes enrol without a token, or end that."""
        return documents.enrolment(await self._client.tokens.set_enrolment(is_open=is_open))

    async def revoke_token(self, token_id: str) -> Document:
        """End a token at once."""
        return documents.token(await self._client.tokens.revoke(token_id))
