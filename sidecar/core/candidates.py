"""Many candidates of which few are looked at: each is made when it is asked for, and once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from sidecar.core.candidate import Candidate
from swarmplane.ids import EndpointId, NodeId
from swarmplane.routes import Endpoint


class Candidates(Sequence[Candidate]):
    """The candidates of ``endpoints``, in that order, as ``make`` finds them when they are first looked at.

    Args:
        endpoints: Those that may be asked.
        own: The node whose endpoints are local.
        make: Costs a few microseconds.
    """

    __slots__ = ("_made", "_make", "_own", "endpoints")

    def __init__(
        self, endpoints: Sequence[Endpoint], own: NodeId, make: Callable[[Endpoint], Candidate]
    ) -> None:
        self.endpoints = endpoints
        self._own = own
        self._make = make
        self._made: dict[int, Candidate] = {}

    def __len__(self) -> int:
        return len(self.endpoints)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Candidate]: ...

    def __getitem__(self, place: int | slice) -> Candidate | Sequence[Candidate]:
        if isinstance(place, slice):
            return tuple(self[one] for one in range(*place.indices(len(self))))
        made = self._made.get(place)
        if made is None:
            made = self._made[place] = self._make(self.endpoints[place])
        return made

    @property
    def made(self) -> int:
        """How many were looked at."""
        return len(self._made)

    def places(self, *, local: bool) -> list[int]:
        """Where this host's own endpoints stand, or the others. Makes no candidate."""
        return [place for place, e in enumerate(self.endpoints) if (e.node == self._own) is local]


def ids_of(candidates: Sequence[Candidate]) -> list[EndpointId]:
    """The endpoints of ``candidates``, in order; none is made for it."""
    if isinstance(candidates, Candidates):
        return [endpoint.id for endpoint in candidates.endpoints]
    return [candidate.endpoint.id for candidate in candidates]


def places_of(candidates: Sequence[Candidate], *, local: bool) -> list[int]:
    """Where this host's own stand, or the others; none is made for it."""
    if isinstance(candidates, Candidates):
        return candidates.places(local=local)
    return [place for place, candidate in enumerate(candidates) if candidate.local is local]
