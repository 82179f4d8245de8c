"""Whether the firewall of this machine lets others in."""

from __future__ import annotations

from typing import Final

from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.firewalls import Firewall, Port, ask_firewall, commands
from cli.doctor.host import ExaminedHost
from cli.doctor.multicast import PORT as MDNS_PORT
from swarmplane.addresses import parse_address
from swarmplane.errors import UnavailableError
from swarmplane.ports import PEER_PORT


def wanted_ports(host: ExaminedHost) -> tuple[Port, ...]:
    """What other machines are to reach here.

    Raises:
        SkippedError: Nothing, or the settings can't be read.
    """
    settings, record = host.settings, host.record
    if settings is None:
        raise SkippedError("the settings can't be read")
    listeners = [*settings.client_listeners()]
    if host.data_dir.control_plane.is_dir():
        listeners += [settings.control_listener(), settings.join_listener()]
    found = {Port(one.port) for one in map(parse_address, listeners) if not one.loopback}
    if record is not None and not all(parse_address(one).loopback for one in record.control_addresses):
        peer = settings.peer.listen or host.url("peer").rpartition("://")[2]
        found.add(Port(parse_address(peer).port if peer else PEER_PORT))
    if not found:
        raise SkippedError("nothing here is for other machines")
    return tuple(sorted(found | ({Port(MDNS_PORT, "udp")} if settings.discovery.mdns else set())))


def _firewall(host: ExaminedHost) -> Firewall:
    found = ask_firewall(wanted_ports(host))
    if found.shut is None:
        raise UnavailableError(f"{found.tool} is on, and shows its rules to administrators only")
    return found


def judge_firewall(firewall: Firewall) -> Verdict:
    """Others find this host, and connect to it in vain."""
    if not firewall.tool:
        return good("no firewall is on, as far as can be seen")
    if not firewall.shut:
        return good(f"{firewall.tool} lets all ports of this host through")
    return bad(
        f"{firewall.tool} lets nobody through to {', '.join(map(str, firewall.shut))}",
        commands(firewall.tool, firewall.shut),
    )


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check(
        "network.firewall", "the firewall lets other hosts in", Source(gather=_firewall, limit_s=8.0),
        judge_firewall,
    ),
)  # fmt: skip
