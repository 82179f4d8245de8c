"""Finding a model's route by the name a client wrote, without a scan."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.core.reserve import clouds
from swarmplane.aliases import Aliases, without_tag
from swarmplane.ids import ModelName
from swarmplane.routes import ModelRoute


class RouteIndex:
    """Agrees with :meth:`swarmplane.routes.RouteTable.find` on every name; immutable once built.

    Exact names are looked up in the table itself. What other spellings need is built at the first one:
    clients nearly always write the exact name, and a table may change many times between two that do not.
    """

    __slots__ = ("_clouds", "_folded", "_models")

    def __init__(self, models: Mapping[ModelName, ModelRoute]) -> None:
        self._models = models
        self._folded: _Folded | None = None
        self._clouds: Mapping[str, tuple[ModelName, ...]] | None = None

    def clouds(self, asked: str) -> tuple[ModelName, ...]:
        """Models of providers in the cloud that are called ``asked`` there."""
        if self._clouds is None:
            self._clouds = clouds(self._models)
        return self._clouds.get(asked.casefold(), ())

    def find(self, asked: str) -> ModelRoute | None:
        """The route for ``asked``: by its name, else by an alias, else by a pattern; see there."""
        route = self._models.get(ModelName(asked)) or self._models.get(ModelName(f"{asked}:latest"))
        if route is not None:
            return route
        if self._folded is None:
            self._folded = _Folded(self._models)
        return self._folded.find(asked)


class _Folded:
    """What is looked at where no model has exactly the name. Built in O(models + aliases)."""

    __slots__ = ("_aliases", "_names", "_stems")

    def __init__(self, models: Mapping[ModelName, ModelRoute]) -> None:
        self._names: dict[str, ModelRoute] = {}
        self._stems: dict[str, ModelRoute | None] = {}
        for route in models.values():
            name = route.name.casefold()
            self._names.setdefault(name, route)
            stem = without_tag(name)
            if stem:
                # None: there are several, and nobody said which is meant.
                self._stems[stem] = None if stem in self._stems else route
        self._aliases = Aliases((alias, route) for route in models.values() for alias in route.aliases)

    def find(self, asked: str) -> ModelRoute | None:
        folded = asked.casefold()
        return (
            self._names.get(folded)
            or self._names.get(f"{folded}:latest")
            or self._stems.get(folded)
            or self._aliases.find(asked)
        )
