"""Watches over several streams: nothing lost, nothing twice.

Mutants that these catch: resuming after a change instead of at it; not forgetting what was told at a later
revision; a bookmark that keeps the position; a list that tells what is known; a list that removes nothing; a
list cut short that counts as whole; a restart that keeps the position; going back unseen.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from swarmplane.client.following import Following, FollowingEvents
from swarmplane.client.values import Change, Event


@dataclass(frozen=True, slots=True)
class Item:
    revision: int


def _put(name: str, revision: int) -> Change[Item]:
    return Change("put", revision, name, Item(revision))


def _gone(name: str, revision: int) -> Change[Item]:
    return Change("removed", revision, name)


def _bookmark(revision: int) -> Change[Item]:
    return Change("bookmark", revision)


def _new(revision: int = 0) -> Following[Item]:
    return Following(revision, lambda item: item.revision)


class Server:
    """A store's history, and the streams that are told of it."""

    def __init__(self) -> None:
        self.history: list[tuple[Change[Item], ...]] = []
        self.compacted = 0

    def commit(self, *names: str, removed: bool = False) -> None:
        revision = len(self.history) + 1
        self.history.append(tuple((_gone if removed else _put)(name, revision) for name in names))

    def state(self) -> dict[str, int]:
        state: dict[str, int] = {}
        for batch in self.history:
            for one in batch:
                if one.item is None:
                    state.pop(one.name, None)
                else:
                    state[one.name] = one.revision
        return state

    def stream(self, revision: int) -> list[Change[Item]]:
        """Everything up to now, and a bookmark."""
        now = len(self.history)
        if revision == 0:
            return [*(_put(name, at) for name, at in self.state().items()), _bookmark(now)]
        return [*(one for batch in self.history[revision - 1 :] for one in batch), _bookmark(now)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)),
        st.tuples(st.just("removed"), st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True)),
        st.tuples(st.just("listen"), st.integers(0, 6)),
        st.tuples(st.just("compact"), st.none()),
    ),
    max_size=30,
)


@given(STEPS)
def test_a_watcher_ends_where_the_store_does(steps: list[tuple[str, object]]) -> None:
    server, following = Server(), _new()
    seen: dict[str, int] = {}
    told: list[Change[Item]] = []

    def listen(length: int | None) -> None:
        start = following.resume()
        assert start is not None
        if 0 < start <= server.compacted:
            following.restart()
            return
        for change in server.stream(start)[:length]:
            assert not following.went_back(change)
            told.extend(following.take(change))

    for kind, what in [*steps, ("listen", None), ("listen", None)]:
        if isinstance(what, list):
            names = [one for one in what if kind == "put" or one in server.state()]
            if names:
                server.commit(*names, removed=kind == "removed")
        elif kind == "compact":
            server.compacted = len(server.history)
        else:
            listen(what if isinstance(what, int) else None)
    puts = [(one.name, one.item.revision) for one in told if one.item is not None]
    assert len(puts) == len(set(puts)), "nothing twice"
    for one in told:
        if one.kind == "removed":
            assert one.name in seen, "nothing is removed twice"
            del seen[one.name]
        elif one.item is not None:
            seen[one.name] = one.item.revision
    assert seen == server.state()


def test_a_store_that_went_back_is_seen() -> None:
    following = _new()
    for change in (_put("a", 7), _bookmark(9)):
        following.take(change)
    assert not following.went_back(_bookmark(9))
    assert following.went_back(_bookmark(8))
    following.restart()
    assert following.resume() == 0
    assert not following.went_back(_bookmark(3))
    assert following.take(_bookmark(3)) == (_gone("a", 3), _bookmark(3))
    assert following.resume() == 4


def test_changes_from_a_revision_on_need_no_list() -> None:
    following = _new(5)
    assert following.resume() == 5
    assert following.take(_put("a", 4)) == ()
    assert following.take(_put("a", 6)) == (_put("a", 6),)
    assert following.resume() == 6
    assert following.take(_put("a", 6)) == ()
    assert following.take(_put("b", 6)) == (_put("b", 6),)
    assert following.begin(9) == ()


def test_events_that_are_forgotten_leave_a_gap() -> None:
    following = FollowingEvents(0)
    assert following.resume() is None
    assert following.begin(10) == ()
    assert following.resume() == 11
    joined = Event(12, "node.joined", "n")
    assert following.take(joined) == (joined,)
    assert following.take(joined) == ()
    assert following.take(Event(11, "node.joined", "m")) == ()
    other = Event(12, "node.joined", "m")
    assert following.take(other) == (other,)
    suspect = Event(3, "node.suspect", "n")
    assert following.take(suspect) == (suspect,)
    assert following.take(Event(14, "bookmark")) == (Event(14, "bookmark"),)
    assert following.resume() == 15
    assert following.went_back(Event(13, "bookmark"))
    following.restart()
    assert following.resume() is None
    (gap,) = following.begin(20)
    assert (gap.kind, gap.revision) == ("gap", 20)
    assert "from revision 15 to 20" in gap.message
    assert following.begin(20) == ()
