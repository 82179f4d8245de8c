"""Many candidates of which few are looked at: each is made when it is asked for, and once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from sidecar.core.candidate import Candidate
from swarmplane.ids import EndpointId, NodeId
from swarmplane.routes import Endpoint


class Places:
    """What follows from which ``endpoints`` there are, in that order: found once, and for many requests.

    Args:
        endpoints: Never changed.
        own: The node whose endpoints are local.
    """

    __slots__ = ("_away", "_by_id", "_home", "_ids", "_own", "endpoints")

    def __init__(self, endpoints: Sequence[Endpoint], own: NodeId) -> None:
        self.endpoints = endpoints
        self._own = own
        self._ids: list[EndpointId] | None = None
        self._by_id: dict[EndpointId, int] | None = None
        self._home: list[int] | None = None
        self._away: list[int] | None = None

    @property
    def ids(self) -> list[EndpointId]:
        """The endpoints' ids. Read only."""
        if self._ids is None:
            self._ids = [endpoint.id for endpoint in self.endpoints]
        return self._ids

    @property
    def by_id(self) -> dict[EndpointId, int]:
        """Where each stands. Read only."""
        if self._by_id is None:
            self._by_id = {key: place for place, key in enumerate(self.ids)}
        return self._by_id

    def local(self, *, local: bool) -> list[int]:
        """Where this host's own endpoints stand, or the others. Read only."""
        if self._home is None or self._away is None:
            self._home = [place for place, e in enumerate(self.endpoints) if e.node == self._own]
            self._away = [place for place, e in enumerate(self.endpoints) if e.node != self._own]
        return self._home if local else self._away


class Candidates(Sequence[Candidate]):
    """The candidates of ``endpoints``, in that order, as ``make`` finds them when they are first looked at.

    Args:
        endpoints: Those that may be asked.
        own: The node whose endpoints are local.
        make: Costs a few microseconds.
        known: Of the same endpoints and node, where it was found before.
    """

    __slots__ = ("_made", "_make", "endpoints", "known")

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        own: NodeId,
        make: Callable[[Endpoint], Candidate],
        known: Places | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.known = known or Places(endpoints, own)
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
        """Where this host's own endpoints stand, or the others. Makes no candidate. Read only."""
        return self.known.local(local=local)


def ids_of(candidates: Sequence[Candidate]) -> list[EndpointId]:
    """The endpoints of ``candidates``, in order; none is made for it. Read only."""
    if isinstance(candidates, Candidates):
        return candidates.known.ids
    return [candidate.endpoint.id for candidate in candidates]


def places_of(candidates: Sequence[Candidate], *, local: bool) -> list[int]:
    """Where this host's own stand, or the others; none is made for it."""
    if isinstance(candidates, Candidates):
        return candidates.places(local=local)
    return [place for place, candidate in enumerate(candidates) if candidate.local is local]
