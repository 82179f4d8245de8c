"""Finding a model's route by the name a client wrote, in constant time."""

from __future__ import annotations

from collections.abc import Mapping

from swarmplane.ids import ModelName
from swarmplane.routes import ModelRoute


class RouteIndex:
    """Agrees with :meth:`swarmplane.routes.RouteTable.find` on every name; immutable once built.

    Exact names are looked up in the table itself. What other spellings need is built at the first one:
    clients nearly always write the exact name, and a table may change many times between two that do not.
    """

    __slots__ = ("_folded", "_models")

    def __init__(self, models: Mapping[ModelName, ModelRoute]) -> None:
        self._models = models
        self._folded: tuple[Mapping[str, ModelRoute], Mapping[str, ModelRoute]] | None = None

    def find(self, asked: str) -> ModelRoute | None:
        """The route for ``asked``: exact, ``asked:latest``, either in any case, then an alias."""
        route = self._models.get(ModelName(asked)) or self._models.get(ModelName(f"{asked}:latest"))
        if route is not None:
            return route
        if self._folded is None:
            self._folded = _fold(self._models)
        names, aliases = self._folded
        folded = asked.casefold()
        return names.get(folded) or names.get(f"{folded}:latest") or aliases.get(asked)


def _fold(
    models: Mapping[ModelName, ModelRoute],
) -> tuple[Mapping[str, ModelRoute], Mapping[str, ModelRoute]]:
    names: dict[str, ModelRoute] = {}
    aliases: dict[str, ModelRoute] = {}
    for route in models.values():
        names.setdefault(route.name.casefold(), route)
        for alias in route.aliases:
            aliases.setdefault(alias, route)
    return names, aliases
