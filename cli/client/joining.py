"""The line that people paste on the next machine."""

from __future__ import annotations

from collections.abc import Sequence

from swarmplane.addresses import Address, parse_address
from swarmplane.advertise import this_machine
from swarmplane.ports import JOIN_PORT
from swarmplane.settings.schema import Settings

_PEOPLE = frozenset({"operator", "admin", "viewer"})


def join_command(join_token: str, addresses: Sequence[str], role: str = "node") -> str:
    """The exact command that spends ``join_token``, at the first of ``addresses``; empty without one."""
    if not addresses:
        return ""
    address = parse_address(addresses[0], default_port=JOIN_PORT)
    shown = _host(address) if address.port == JOIN_PORT else str(address)
    verb = "login" if role in _PEOPLE else "join"
    instance = " --etcd URL,..." if role == "instance" else ""
    return f"swarmctl {verb} {shown}{instance} --token {join_token}"


def own_join_addresses(settings: Settings, join_listener: str) -> tuple[str, ...]:
    """Where machines elsewhere enrol with an instance on this one; empty where they can't."""
    listener = parse_address(join_listener)
    if listener.loopback:
        return ()
    hosts = this_machine(settings.node.advertise) if listener.unspecified else (listener.host,)
    return tuple(str(Address(host, listener.port)) for host in hosts)


def _host(address: Address) -> str:
    return f"[{address.host}]" if ":" in address.host else address.host
