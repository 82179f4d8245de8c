"""What a stream of watched events says, put together by revision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controlplane.store.etcd.wire import v3_pb2 as pb


class Batcher:
    """Gives each revision's events once, whole and in order, whatever streams they came over.

    A member may send what it was asked for and more: what was given before is left out. Answers come cut into
    fragments, also within a revision: its events are held back until it is complete.
    """

    def __init__(self, start: int) -> None:
        self.next = start
        """Everything before this revision has been given."""
        self._held: list[pb.Event] = []

    def begin(self) -> None:
        """A new stream starts: what an old one left incomplete comes again."""
        self._held = []

    def feed(self, events: Iterable[pb.Event], *, more: bool) -> Iterator[tuple[int, list[pb.Event]]]:
        """Revisions that are complete with ``events``. ``more`` of the same answer may follow."""
        for event in events:
            if event.kv.mod_revision < self.next:
                continue
            if self._held and self._held[0].kv.mod_revision != event.kv.mod_revision:
                yield self._complete()
            self._held.append(event)
        if self._held and not more:
            yield self._complete()

    def advance(self, revision: int) -> None:
        """Nothing more comes of ``revision`` and before."""
        self.next = max(self.next, revision + 1)

    def _complete(self) -> tuple[int, list[pb.Event]]:
        events, self._held = self._held, []
        self.next = events[0].kv.mod_revision + 1
        return events[0].kv.mod_revision, events
