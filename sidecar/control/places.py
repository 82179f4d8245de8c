"""Where control planes are, and in which order they are tried."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

MOST: Final = 16
"""Addresses kept of each kind."""


class Places:
    """Addresses of control planes, those that are known to live first.

    A lost instance is tried last, the others in an order of chance: what one instance leaves behind spreads
    over all that are left.

    Args:
        control: ``host:port`` of control listeners, most preferred first; at least one.
        join: ``host:port`` of enrolment listeners.
        shuffle: Puts a list into an order of chance.
    """

    def __init__(
        self,
        control: Sequence[str],
        join: Sequence[str],
        shuffle: Callable[[list[str]], None] = random.shuffle,
    ) -> None:
        self.control = tuple(control)
        self.join = tuple(join)
        self._live = tuple(control)
        self._shuffle = shuffle
        self._round = deque(control)

    def next(self) -> str:
        """The address to try now."""
        if not self._round:
            self._begin_round(last="")
        return self._round.popleft()

    def learned(self, control: Iterable[str], join: Iterable[str]) -> bool:
        """Instances that live, as one of them told. Whether anything of it is new."""
        before = (self.control, self.join)
        told = tuple(dict.fromkeys(control))
        if told:
            self._live = told
            self.control = tuple(dict.fromkeys([*told, *self.control]))[:MOST]
        self.join = tuple(dict.fromkeys([*join, *self.join]))[:MOST]
        return before != (self.control, self.join)

    def pointed(self, control: Iterable[str], join: Iterable[str]) -> bool:
        """Somebody here says where else to look. What is new of it is tried next; whether anything is."""
        fresh = [one for one in list(dict.fromkeys(control))[:MOST] if one not in self.control]
        self.join = tuple(dict.fromkeys([*join, *self.join]))[:MOST]
        self.control = (*fresh, *self.control)[:MOST]
        self._round.extendleft(reversed(fresh))
        return bool(fresh)

    def lost(self, address: str) -> None:
        """The stream to ``address`` ended: it is tried again when all others were."""
        self._begin_round(last=address)

    def redirected(self, addresses: Iterable[str]) -> None:
        """An instance sent us to ``addresses``."""
        self.learned(addresses, ())
        told = list(self._live)
        self._shuffle(told)
        self._round = deque(told)

    def _begin_round(self, last: str) -> None:
        live = [one for one in self._live if one != last]
        older = [one for one in self.control if one != last and one not in self._live]
        self._shuffle(live)
        self._round = deque([*live, *([last] if last in self._live else []), *older])
        if last and last not in self._round:
            self._round.append(last)
