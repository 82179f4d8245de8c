"""What the data plane needs of its neighbours."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from swarmplane.ids import BackendName, NodeId

if TYPE_CHECKING:
    from sidecar.backends.target import Target


class Backends(Protocol):
    """The inference servers of this host."""

    @property
    def targets(self) -> Mapping[BackendName, Target]:
        """How each is called; replaced whole on change."""

    def report_failure(self, name: BackendName) -> None:
        """It could not be connected to: look at it now."""

    def report_missing_model(self, name: BackendName, model: str) -> None:
        """It answered that it does not have a model it had listed."""


class PeerTls(Protocol):
    """How this node proves itself to others, and how it checks them."""

    def client_context(self) -> ssl.SSLContext:
        """For calls to peers; the present one after every renewal."""

    def check(self, ssl_object: ssl.SSLObject, expected: NodeId | None) -> NodeId:
        """The node at the other end of a finished handshake.

        Raises:
            Exception: It is not ``expected``, is denied, or its certificate is not valid any more.
        """


Clock = Callable[[], float]
"""Elapsed seconds, counting suspend; the clock of routes."""
