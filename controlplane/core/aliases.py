"""Aliases as people set them, laid into the routes of their models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from swarmplane.ids import ModelName
from swarmplane.routes import ModelRoute


def with_aliases(
    routes: Mapping[ModelName, ModelRoute], aliases: Mapping[str, ModelName]
) -> Mapping[ModelName, ModelRoute]:
    """``routes`` with the ``aliases`` of their models, sorted, behind those that they have.

    An alias of a model that nobody knows any more is left out: the name is unknown until somebody has the
    model again. A model that is known by another name now is found by it. O(routes + aliases).
    """
    known = {further: route.name for route in routes.values() for further in route.aliases}
    found: dict[ModelName, list[str]] = {}
    for alias, model in sorted(aliases.items()):
        name = model if model in routes else known.get(model)
        if name is not None and alias not in known:
            found.setdefault(name, []).append(alias)
    return {
        name: replace(route, aliases=(*route.aliases, *found[name])) if name in found else route
        for name, route in routes.items()
    }
