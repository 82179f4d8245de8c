"""What the control plane takes from the settings, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmplane.addresses import Address, parse_address
from swarmplane.advertise import this_machine
from swarmplane.settings.schema import CONSOLE_PORT, CONTROL_PORT, JOIN_PORT, Settings


@dataclass(frozen=True, slots=True)
class ListenPolicy:
    """Where the listeners are."""

    control: Address
    join: Address
    console: Address
    advertise: tuple[str, ...]
    """Hosts told to others; empty: found out."""

    @classmethod
    def of(cls, settings: Settings) -> ListenPolicy:
        """Out of the settings of a host.

        Raises:
            InvalidRequestError: An address is none.
        """
        return cls(
            parse_address(settings.control_listener(), default_port=CONTROL_PORT),
            parse_address(settings.join_listener(), default_port=JOIN_PORT),
            parse_address(settings.control.console_listen, default_port=CONSOLE_PORT),
            settings.node.advertise,
        )


@dataclass(frozen=True, slots=True)
class FoundingPolicy:
    """How a swarm is founded, and its secret found."""

    swarm_name: str
    secret_file: Path | None

    @classmethod
    def of(cls, settings: Settings) -> FoundingPolicy:
        """Out of the settings of a host."""
        return cls(settings.swarm.name, settings.swarm.secret_file)


def told_addresses(bound: Address, advertise: Sequence[str]) -> tuple[str, ...]:
    """``host:port`` at which others reach a listener, most preferred first; empty: from this machine only."""
    if advertise:
        hosts = tuple(advertise)
    elif bound.loopback:
        hosts = ()
    else:
        hosts = this_machine() if bound.unspecified else (bound.host,)
    return tuple(str(Address(host, bound.port)) for host in hosts)


def local_address(bound: Address) -> str:
    """``host:port`` at which this machine reaches its own listener."""
    return str(Address("127.0.0.1", bound.port) if bound.unspecified else bound)
