"""The clients of a swarm's control planes: one for asyncio, one for threads."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from swarmplane.client import blocking_resources as blocking
from swarmplane.client import calls, resources
from swarmplane.client.blocking_transport import BlockingTransport
from swarmplane.client.key_resources import AsyncKeys, Keys
from swarmplane.client.retrying import Retry
from swarmplane.client.targets import (
    Target,
    due,
    explicit_credential,
    keep_renewed,
    saved_target,
)
from swarmplane.client.transport import Transport
from swarmplane.credentials.files import Credential
from swarmplane.errors import SwarmError

_Transport = TypeVar("_Transport", Transport, BlockingTransport)


class _Client(ABC, Generic[_Transport]):
    """How both are made, and what both can tell without asking anybody."""

    _transport: _Transport

    @abstractmethod
    def __init__(
        self,
        addresses: Sequence[str],
        credential: Credential,
        *,
        retry: Retry | None = None,
        directory: Path | None = None,
    ) -> None: ...

    @classmethod
    def from_context(
        cls, context: str = "", *, data_dir: str | Path | None = None, retry: Retry | None = None
    ) -> Self:
        """With a credential of this host: what ``swarmctl --context CONTEXT`` would act with. It blocks.

        Raises:
            NotFoundError: There is nothing to act with.
            UnauthenticatedError: The certificate's time is over.
        """
        return cls.from_target(saved_target(context, data_dir), retry=retry)

    @classmethod
    def from_target(cls, target: Target, *, retry: Retry | None = None) -> Self:
        """With a credential of this host. It blocks."""
        return cls(target.addresses, target.credential(), retry=retry, directory=target.directory)

    @classmethod
    def from_files(
        cls,
        *addresses: str,
        ca: str | Path,
        cert: str | Path,
        key: str | Path,
        retry: Retry | None = None,
    ) -> Self:
        """With three PEM files, wherever they are. It blocks.

        Raises:
            NotFoundError: One can't be read.
        """
        return cls(addresses, explicit_credential(ca, cert, key), retry=retry)

    @property
    def address(self) -> str:
        """The control plane that is asked next."""
        return self._transport.address

    @property
    def stale_s(self) -> float:
        """Age of the oldest answer so far: above 0 while the control plane's store is out of reach."""
        return self._transport.stale_s


class AsyncClient(_Client[Transport]):
    """A swarm, for asyncio. ``async with AsyncClient.from_context() as swarm: ...``; one loop only.

    Calls go to one control plane as long as it answers, else to the next of ``addresses``. What one of them
    can't do now is tried elsewhere, within ``retry``; what the swarm refuses is raised at once, as the
    :mod:`swarmplane.errors` that it is. Entering finds a control plane that answers, in one round.

    Args:
        addresses: ``host:port`` of control planes, most preferred first; the port may be left out.
        credential: As whom.
        retry: How long to go on when nobody answers.
        directory: Where the credential is kept; a person's is renewed there on use. None: never renewed.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        credential: Credential,
        *,
        retry: Retry | None = None,
        directory: Path | None = None,
    ) -> None:
        self._credential = credential
        self._directory = directory
        self._transport = Transport(addresses, credential, retry or Retry())
        self.nodes = resources.AsyncNodes(self._transport)
        self.models = resources.AsyncModels(self._transport)
        self.routes = resources.AsyncRoutes(self._transport)
        self.elections = resources.AsyncElections(self._transport)
        self.events = resources.AsyncEvents(self._transport)
        self.aliases = resources.AsyncAliases(self._transport)
        self.policies = resources.AsyncPolicies(self._transport)
        self.tokens = resources.AsyncTokens(self._transport)
        self.keys = AsyncKeys(self._transport)
        self.operations = resources.AsyncOperations(self._transport)

    async def __aenter__(self) -> Self:
        try:
            await self._transport.connect()
            await self._renew()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        await self._transport.close()

    async def _renew(self) -> None:
        request = due(self._credential) if self._directory is not None else None
        if request is None or self._directory is None:
            return
        try:
            certificate_pem = await self._transport.call(calls.renew(request))
        except SwarmError:
            # It is good for weeks to come.
            return
        await asyncio.to_thread(keep_renewed, self._directory, self._credential, certificate_pem)


class Client(_Client[BlockingTransport]):
    """A swarm, for programs without asyncio: as :class:`AsyncClient`; threads may share one."""

    def __init__(
        self,
        addresses: Sequence[str],
        credential: Credential,
        *,
        retry: Retry | None = None,
        directory: Path | None = None,
    ) -> None:
        self._credential = credential
        self._directory = directory
        self._transport = BlockingTransport(addresses, credential, retry or Retry())
        self.nodes = blocking.Nodes(self._transport)
        self.models = blocking.Models(self._transport)
        self.routes = blocking.Routes(self._transport)
        self.elections = blocking.Elections(self._transport)
        self.events = blocking.Events(self._transport)
        self.aliases = blocking.Aliases(self._transport)
        self.policies = blocking.Policies(self._transport)
        self.tokens = blocking.Tokens(self._transport)
        self.keys = Keys(self._transport)
        self.operations = blocking.Operations(self._transport)

    def __enter__(self) -> Self:
        try:
            request = due(self._credential) if self._directory is not None else None
            if request is not None and self._directory is not None:
                self._renew(self._directory, request)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._transport.close()

    def _renew(self, directory: Path, request: bytes) -> None:
        try:
            certificate_pem = self._transport.call(calls.renew(request))
        except SwarmError:
            # It is good for weeks to come.
            return
        keep_renewed(directory, self._credential, certificate_pem)
