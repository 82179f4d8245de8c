"""Where this host looks for inference servers, by its settings and its own listeners."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import replace

from sidecar.backends.finder import Finder, Search
from sidecar.backends.registry import BackendRegistry
from swarmplane.addresses import parse_address
from swarmplane.clock import Clock
from swarmplane.listening import bound_address
from swarmplane.settings.schema import Settings


class Searching:
    """The finder of a sidecar, which follows the settings.

    Args:
        bound: This process's listeners: no backends.
    """

    def __init__(
        self, settings: Settings, registry: BackendRegistry, clock: Clock, bound: Iterable[socket.socket]
    ) -> None:
        self._bound = frozenset(bound_address(one).port for one in bound)
        self.finder = Finder(registry, self._search(settings), clock)

    def adopt(self, settings: Settings) -> None:
        """Look by these settings from now on."""
        self.finder.adopt(self._search(settings))

    def _search(self, settings: Settings) -> Search:
        found = search_of(settings)
        return replace(found, own_ports=found.own_ports | self._bound)


def search_of(settings: Settings) -> Search:
    """What ``settings`` want to be looked for, and which ports are those of this host's control plane."""
    told = (
        settings.control_listener(),
        settings.join_listener(),
        settings.control.console_listen,
        settings.control.metrics_listen,
        settings.peer.listen,
    )
    discovery = settings.discovery
    return Search(
        discovery.backends,
        discovery.ports,
        discovery.ignore,
        frozenset(parse_address(text).port for text in told if text),
    )
