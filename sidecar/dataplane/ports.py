"""What the data plane needs of its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from swarmplane.ids import BackendName

if TYPE_CHECKING:
    from sidecar.backends.target import Target
    from sidecar.core.residents import Resident
    from sidecar.core.shown import Shown


class Backends(Protocol):
    """The inference servers of this host."""

    @property
    def targets(self) -> Mapping[BackendName, Target]:
        """How each is called; replaced whole on change."""

    def report_failure(self, name: BackendName) -> None:
        """It could not be connected to: look at it now."""

    def resident(self, name: BackendName, model: str) -> Resident | None:
        """How ``model``, by the backend's spelling, was loaded there at the last look; None: it was not."""

    def shown(self, name: BackendName, model: str) -> Shown | None:
        """What a server of Ollama's kind shows of ``model``, by its own spelling; None: nothing is known."""

    def looks(self, name: BackendName) -> int:
        """How often it was looked at so far; counted when a look is over."""

    def look(self, name: BackendName) -> None:
        """Look at it soon: something changed there."""

    def report_missing_model(self, name: BackendName, model: str) -> None:
        """It answered that it does not have a model it had listed."""


Clock = Callable[[], float]
"""Elapsed seconds, counting suspend; the clock of routes."""
