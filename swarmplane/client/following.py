"""Where a watch stands: nothing lost, nothing twice, whatever happens to its streams. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from swarmplane.client.values import Change, Event

T = TypeVar("T")
C = TypeVar("C")


class Position(Protocol[C]):
    """Where a watch stands."""

    def restart(self) -> None:
        """What was seen so far is no base any longer."""
        ...

    def resume(self) -> int | None:
        """Another stream begins; the revision it starts at; None: ask for the present one first."""
        ...

    def begin(self, present: int) -> tuple[C, ...]:
        """The store stands at ``present``; what the watcher is told of that."""
        ...

    def went_back(self, change: C) -> bool:
        """Whether the store is behind what was seen."""
        ...

    def take(self, change: C) -> tuple[C, ...]:
        """What the watcher is told of ``change``."""
        ...


class Following(Generic[T]):
    """A watch of named things over several streams.

    A stream starts at :attr:`revision`. One that starts at 0 sends everything as it stands, then a bookmark;
    what was known before and is not in it was removed meanwhile.

    Args:
        revision: First one wanted; 0: everything as it stands, then changes.
        revision_of: Revision of an item's last change.
    """

    def __init__(self, revision: int, revision_of: Callable[[T], int]) -> None:
        self.revision = revision
        self._revision_of = revision_of
        self._known: dict[str, int] = {}
        self._listed: set[str] | None = set() if revision == 0 else None
        self._told: set[str] = set()

    def restart(self) -> None:
        """List everything again: the history from :attr:`revision` on is forgotten, or not this store's."""
        self.revision = 0
        self._listed = set()
        self._told.clear()

    def resume(self) -> int | None:
        """Another stream begins; the revision it starts at."""
        if self._listed is not None:
            self._listed = set()
        return self.revision

    def begin(self, present: int) -> tuple[Change[T], ...]:
        """Never asked for: a list tells where the store stands."""
        del present
        return ()

    def went_back(self, change: Change[T]) -> bool:
        """Whether the store is behind what was seen: it was restored, and the watch must restart."""
        return self._listed is None and change.kind == "bookmark" and change.revision < self.revision - 1

    def take(self, change: Change[T]) -> tuple[Change[T], ...]:
        """What of ``change`` is new to the watcher, and what it implies, in order."""
        if change.kind == "bookmark":
            return self._bookmark(change)
        if self._listed is not None:
            return self._list(change)
        if change.revision > self.revision:
            self._told.clear()
        elif change.revision < self.revision or change.name in self._told:
            return ()
        # Several changes may share a revision: only a later one, or a bookmark, says that it is complete.
        self.revision = change.revision
        self._told.add(change.name)
        if change.item is None:
            self._known.pop(change.name, None)
        else:
            self._known[change.name] = self._revision_of(change.item)
        return (change,)

    def _list(self, change: Change[T]) -> tuple[Change[T], ...]:
        if self._listed is None or change.item is None:
            return ()
        self._listed.add(change.name)
        revision = self._revision_of(change.item)
        if self._known.get(change.name) == revision:
            return ()
        self._known[change.name] = revision
        return (change,)

    def _bookmark(self, change: Change[T]) -> tuple[Change[T], ...]:
        listed, self._listed = self._listed, None
        gone: list[Change[T]] = []
        if listed is not None:
            gone += [Change("removed", change.revision, name) for name in self._known if name not in listed]
            for one in gone:
                del self._known[one.name]
        if listed is not None or change.revision >= self.revision:
            self.revision = change.revision + 1
            self._told.clear()
        return (*gone, change)


class FollowingEvents:
    """A watch of events: they have no state to list again, so what is forgotten is told as a ``gap``.

    Args:
        revision: First one wanted; 0: from now on.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._lost_since = 0
        self._told: set[tuple[str, str]] = set()

    def restart(self) -> None:
        """Go on from now: the history from :attr:`revision` on is forgotten, or not this store's."""
        self._lost_since, self.revision = self.revision, 0
        self._told.clear()

    def resume(self) -> int | None:
        """Another stream begins; the revision it starts at; None: ask for the present one first."""
        return self.revision or None

    def begin(self, present: int) -> tuple[Event, ...]:
        """The store stands at ``present``; what that implies."""
        self.revision = present + 1
        lost, self._lost_since = self._lost_since, 0
        if not lost:
            return ()
        return (Event(present, "gap", message=f"events from revision {lost} to {present} are forgotten"),)

    def went_back(self, event: Event) -> bool:
        """Whether the store is behind what was seen: it was restored."""
        return event.kind == "bookmark" and event.revision < self.revision - 1

    def take(self, event: Event) -> tuple[Event, ...]:
        """``event`` if it is new."""
        if event.kind == "bookmark":
            if event.revision >= self.revision:
                self.revision = event.revision + 1
                self._told.clear()
            return (event,)
        if event.kind == "node.suspect":
            # Evidence, not history: its revision only tells about when.
            return (event,)
        key = (event.kind, event.subject)
        if event.revision > self.revision:
            self._told.clear()
        elif event.revision < self.revision or key in self._told:
            return ()
        self.revision = event.revision
        self._told.add(key)
        return (event,)
