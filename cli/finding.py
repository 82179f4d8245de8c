"""Finding a swarm to join on the local network, and agreeing with a person on which one it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from cli.output import say
from cli.running import wait_for
from swarmplane.errors import FailedPreconditionError

if TYPE_CHECKING:
    from swarmplane.discovery.mdns import Sighting
    from swarmplane.discovery.peers import Peer, Wanted
    from swarmplane.settings.schema import Settings

_FIRST_S: Final = 3.0
"""How long it is listened for more swarms than one, where a person has to choose."""


@dataclass(frozen=True, slots=True)
class Swarm:
    """A swarm on the local network."""

    name: str
    fingerprint: str
    join: tuple[str, ...]
    """Enrolment listeners that answer, ``host:port``."""
    open: bool


class OtherSwarmsError(Exception):
    """There are swarms on this network already: none is founded beside them unasked."""

    def __init__(self, found: Sequence[Swarm]) -> None:
        super().__init__("there is a swarm on this network")
        self.swarms = tuple(found)


def find_swarm(settings: Settings, fingerprint: str) -> str:
    """Where the swarm with ``fingerprint`` enrols, as soon as it is found.

    Raises:
        FailedPreconditionError: It was not; says who was.
    """
    from swarmplane.discovery.peers import LOOK_S, look_around

    def enough(seen: Sequence[Sighting]) -> bool:
        return any(one.announcement.fingerprint == fingerprint and one.announcement.join for one in seen)

    say(f"looking for the swarm on the local network (at most {LOOK_S:g} s, then its addresses are asked) …")
    found = wait_for(look_around(_wanted(settings, LOOK_S), enough=enough, say=say))
    for swarm in swarms(found):
        if swarm.fingerprint == fingerprint:
            say(f"found: swarm {swarm.name} at {swarm.join[0]}")
            return swarm.join[0]
    raise FailedPreconditionError(_not_found(found, "the swarm of this token"))


def choose_open_swarm(settings: Settings, name: str, *, yes: bool) -> Swarm:
    """The open swarm that a person, or ``name`` and ``yes``, agree to join.

    Raises:
        FailedPreconditionError: There is none; says what to do.
        click.UsageError: Nobody can be asked, and it was not said beforehand.
    """
    from swarmplane.discovery.peers import LOOK_S, look_around

    say("looking for swarms on the local network …")
    found = wait_for(look_around(_wanted(settings, _FIRST_S), say=say))
    if not found:
        found = wait_for(look_around(_wanted(settings, LOOK_S - _FIRST_S), say=say))
    seen = [one for one in swarms(found) if not name or one.name == name]
    able = [one for one in seen if one.open]
    if not able:
        raise FailedPreconditionError(how_to_join(seen) or _not_found(found, "a swarm to join"))
    if len(able) == 1:
        agree(able[0], yes=yes)
        return able[0]
    listed = ", ".join(f"{one.name} ({one.fingerprint[:13]}…)" for one in able)
    if not sys.stdin.isatty():
        raise click.UsageError(f"several open swarms are here: {listed}; say --swarm NAME --yes")
    for number, one in enumerate(able, 1):
        say(f"{number}: swarm {one.name} at {one.join[0]}, fingerprint {one.fingerprint}")
    return able[click.prompt("Which one", type=click.IntRange(1, len(able)), err=True) - 1]


def agree(swarm: Swarm, *, yes: bool) -> None:
    """That a person trusts ``swarm`` by its fingerprint, which is all that stands for it from now on.

    Raises:
        click.UsageError: Nobody can be asked, and ``yes`` was not said.
        click.Abort: The person declines.
    """
    where = f"swarm {swarm.name} at {swarm.join[0]}, fingerprint {swarm.fingerprint}"
    say(f"this swarm is open, it takes every host of the network: {where}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{where}: compare the fingerprint, then say --yes")
    click.confirm("Join it", abort=True, err=True)


def how_to_join(seen: Sequence[Swarm]) -> str:
    """What to type where swarms are here that need a token; empty where none is."""
    if not seen:
        return ""
    lines = [
        f"swarm {one.name} is here and needs a token. There: swarmctl token create; then here: "
        f"swarmctl join {one.join[0]} --token-file FILE"
        for one in seen
    ]
    return "\n".join(lines)


def swarms(found: Sequence[Peer]) -> tuple[Swarm, ...]:
    """The swarms that can be joined from here, each once, by name."""
    known: dict[str, Swarm] = {}
    for peer in found:
        told = peer.announcement
        if peer.reachable:
            before = known.get(told.fingerprint)
            join = tuple(dict.fromkeys([*(before.join if before else ()), *told.join]))
            known[told.fingerprint] = Swarm(told.swarm_name, told.fingerprint, join, peer.open)
    return tuple(sorted(known.values(), key=lambda one: (one.name, one.fingerprint)))


def _wanted(settings: Settings, within_s: float) -> Wanted:
    from swarmplane.discovery.peers import Wanted

    return Wanted(
        mdns=settings.discovery.mdns,
        subnets=settings.discovery.subnets,
        known=settings.discovery.peers,
        within_s=within_s,
    )


def _not_found(found: Sequence[Peer], what: str) -> str:
    seen = "; ".join(
        f"{peer.announcement.node_name} of swarm {peer.announcement.swarm_name}: {peer.reason}"
        for peer in found
        if peer.reason
    )
    hint = (
        "is `swarmctl up --lan` running there, on the same network? Else name it: swarmctl join ADDRESS; "
        "`swarmctl peers --subnet-scan` shows who is found"
    )
    return f"{what} was not found on the local network{f' ({seen})' if seen else ''}; {hint}"
