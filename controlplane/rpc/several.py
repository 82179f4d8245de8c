"""One listener that is served by several gRPC servers, so that many can come at the same time.

A server of grpcio's asyncio interface hands over one new call at a time, and two turns of the loop pass until
the next: 70 to 120 a second were measured in a loop that serves a thousand streams. Linux spreads the
connections to one port over all that listen there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import grpc

_SERVERS: Final = 4


class SeveralServers(grpc.aio.Server):
    """Behaves as one server. Where the platform does not spread connections it is one.

    Args:
        make: Makes one of them, not started, with further options.
    """

    def __init__(self, make: Callable[[Sequence[tuple[str, int]]], grpc.aio.Server]) -> None:
        spread = sys.platform == "linux"
        # Nobody else gets a share: who listens here tries the port for itself alone first.
        options = (("grpc.so_reuseport", int(spread)),)
        self._servers = [make(options) for _ in range(_SERVERS if spread else 1)]

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """See the base class."""
        handlers = tuple(generic_rpc_handlers)
        for server in self._servers:
            server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """See the base class."""
        for server in self._servers:
            server.add_registered_method_handlers(service_name, method_handlers)

    def add_insecure_port(self, address: str) -> int:
        """See the base class."""
        return self._add(address, lambda server, where: server.add_insecure_port(where))

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """See the base class. Credentials that may change serve one only, see :meth:`listen`."""
        return self.listen(address, lambda: server_credentials)

    def listen(self, address: str, credentials: Callable[[], grpc.ServerCredentials]) -> int:
        """As :meth:`add_secure_port`, with new ``credentials`` for each."""
        return self._add(address, lambda server, where: server.add_secure_port(where, credentials()))

    async def start(self) -> None:
        """See the base class."""
        for server in self._servers:
            await server.start()

    async def stop(self, grace: float | None) -> None:
        """See the base class."""
        # All of them close their listeners before the first waits for its calls.
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(server.stop(grace))

    async def wait_for_termination(
        self,
        timeout: float | None = None,
    ) -> bool:
        """See the base class."""
        return all([await server.wait_for_termination(timeout) for server in self._servers])

    def _add(self, address: str, add: Callable[[grpc.aio.Server, str], int]) -> int:
        """The port; one that is 0 is chosen by the first for all."""
        first, *others = self._servers
        port = add(first, address)
        host = address.rpartition(":")[0]
        for server in others:
            add(server, f"{host}:{port}")
        return port
