"""The network of this machine: addresses, names, multicast, and the way to other hosts."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cli.doctor.asking import asked
from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from cli.doctor.multicast import HELD, Heard, listen_to_multicast
from cli.doctor.trips import HANGS, Trip, travel
from swarmplane.addresses import Address, parse_address
from swarmplane.errors import reason_of

FAR_S: Final = 0.1
"""A round trip that costs a request more than it should on a local network."""
SLOW_NAME_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Names:
    """What this machine's resolver says of this machine."""

    localhost: tuple[str, ...]
    """Addresses; empty: it is not known."""
    longest_s: float
    """Time that the slowest answer took."""
    own_name: str
    own_problem: str
    """Why the own name can't be looked up; empty: it can."""


@dataclass(frozen=True, slots=True)
class Trips:
    """The way to the other hosts."""

    trips: tuple[Trip, ...]
    left_out: int = 0
    """Hosts that were not tried: there are too many."""


def _binds(host: ExaminedHost) -> Mapping[str, str]:
    """By address that is to be listened at: why that is impossible; empty: it can be."""
    if host.settings is None:
        raise SkippedError("the settings can't be read")
    settings = host.settings
    wanted = {
        *settings.client_listeners(), settings.admin.listen, settings.control_listener(),
        settings.join_listener(), settings.control.console_listen, settings.peer.listen,
    }  # fmt: skip
    addresses = sorted({parse_address(text).host for text in wanted if text})
    return {one: _why_not_bound(one) for one in addresses}


def _why_not_bound(address: str) -> str:
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            one.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return "no interface of this machine has this address"
        return reason_of(error)
    return ""


def judge_binds(binds: Mapping[str, str]) -> Verdict:
    """A listener at an address that the machine does not have keeps it from starting."""
    found = [f"{address}: {reason}" for address, reason in binds.items() if reason]
    if not found:
        return good(", ".join(binds))
    return bad(
        "; ".join(found),
        "listen at an address of this machine (ip address; ipconfig), or at all: swarmctl config set "
        "client.listen=0.0.0.0:11400",
    )


def _names(_: ExaminedHost) -> Names:
    own, longest_s, found = socket.gethostname(), 0.0, {}
    for name in ("localhost", own):
        begun_s = time.monotonic()
        try:
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            found[name] = tuple(dict.fromkeys(str(row[4][0]) for row in rows)), ""
        except OSError as error:
            found[name] = (), reason_of(error)
        longest_s = max(longest_s, time.monotonic() - begun_s)
    return Names(found["localhost"][0], longest_s, own, found[own][1])


def judge_names(names: Names) -> Verdict:
    """Programs here ask ``http://localhost:11400``."""
    if not names.localhost or not all(Address(one, 0).loopback for one in names.localhost):
        found = ", ".join(names.localhost) or "nothing"
        return bad(
            f"localhost means {found}: clients that ask http://localhost:11400 don't reach this host",
            "write `127.0.0.1 localhost` and `::1 localhost` into the hosts file (/etc/hosts; "
            "C:\\Windows\\System32\\drivers\\etc\\hosts)",
            "error",
        )
    if names.longest_s > SLOW_NAME_S:
        return bad(
            f"looking up a name of this machine takes {names.longest_s:.1f} s",
            "see that the name servers in /etc/resolv.conf (resolvectl status; scutil --dns) answer",
        )
    if names.own_problem:
        return bad(
            f"the name of this machine, {names.own_name}, is not known: {names.own_problem}",
            f"write `127.0.1.1 {names.own_name}` into /etc/hosts",
        )
    return good(f"localhost and {names.own_name} are known")


def _multicast(host: ExaminedHost) -> Heard:
    if host.settings is not None and not host.settings.discovery.mdns:
        raise SkippedError("mDNS is switched off (discovery.mdns)")
    neighbours = {} if host.runtime is None or not host.runtime.swarm else _neighbours(host)
    return listen_to_multicast(neighbours)


def _neighbours(host: ExaminedHost) -> Mapping[str, tuple[str, ...]]:
    """Hosts of peer addresses of the other nodes, by name."""
    document = asked(host, "admin", "/routes")
    return {
        str(node["name"]): tuple(parse_address(one).host for one in node["peer_addresses"])
        for node in document["nodes"]
        if host.record is None or node["id"] != host.record.node_id
    }


def judge_multicast(heard: Heard) -> Verdict:
    """Without it, hosts don't find each other by themselves."""
    silent = [f"{address}: {reason}" for address, reason in heard.interfaces.items() if reason]
    if HELD in heard.interfaces.values():
        return bad(
            "; ".join(silent),
            "stop it, or have it share the port as mDNS programs do (ss -ulnp, lsof -i UDP:5353 and "
            "netstat -abn show who it is); or join by address: swarmctl join HOST",
        )
    if silent:
        return bad(
            f"what is sent to the multicast group does not come back; {'; '.join(silent)}",
            "let UDP port 5353 through to and from 224.0.0.251 (network.firewall), give the interface a "
            "route for it (ip route add 224.0.0.0/4 dev NAME), or join by address: swarmctl join HOST",
        )
    unheard = [name for name, answered in heard.neighbours.items() if not answered]
    if unheard and len(unheard) == len(heard.neighbours):
        return bad(
            f"{', '.join(unheard)} on this network can't be heard, though it can be sent to",
            "switch off client isolation and IGMP snooping without a querier at the access point or switch, "
            "let UDP port 5353 through on both; until then join by address, or by the scan: "
            "swarmctl peers --subnet-scan",
        )
    told = f"{', '.join(heard.interfaces)}: sent and received"
    near = f"; {sum(heard.neighbours.values())} of {len(heard.neighbours)} neighbours heard"
    return good(told + (near if heard.neighbours else ""))


def _trips(host: ExaminedHost) -> Trips:
    if host.record is None:
        raise SkippedError("this host is in no swarm")
    nodes = asked(host, "admin", "/routes")["nodes"]
    others = [one for one in nodes if one["id"] != host.record.node_id and one["session"]]
    if not others:
        raise SkippedError("there is no other host that runs")
    return Trips(*travel(others, host.data_dir.node))


def judge_trips(trips: Trips) -> Verdict:
    """A host that can't be reached gets no request from here, and a far one makes each of them wait."""
    lost = [f"{one.name} at {one.address}: {one.reason}" for one in trips.trips if one.reason]
    if lost and all(one.reason in {"", HANGS} for one in trips.trips):
        return bad("; ".join(lost), "see why there: swarmctl doctor, swarmctl logs; then: swarmctl restart")
    if lost:
        return bad(
            "; ".join(lost),
            "let the peer port (11403) through there (network.firewall says how), or tell others an address "
            "that they reach: swarmctl up --advertise HOST",
        )
    far = [one for one in trips.trips if one.seconds > FAR_S]
    shown = ", ".join(f"{one.name} {one.seconds * 1e3:.0f} ms" for one in trips.trips)
    if far:
        return bad(
            f"far away: {', '.join(f'{one.name} {one.seconds * 1e3:.0f} ms' for one in far)}",
            "use a wire, or a nearer relay of the VPN (tailscale ping shows the way it takes)",
        )
    return good(shown + (f"; {trips.left_out} more not tried" if trips.left_out else ""))


def judge_mtu(trips: Trips) -> Verdict:
    """Where large packets are lost on the way, connections open and requests hang."""
    tried = [one for one in trips.trips if one.large is not None]
    if not tried:
        raise SkippedError("no other host lets us in")
    stuck = [one for one in tried if one.large is False]
    if stuck:
        return bad(
            f"small packets arrive, large ones are lost on the way to {', '.join(one.name for one in stuck)}",
            "lower the MTU of the interface on the way (ip link set dev NAME mtu 1280; a VPN often needs "
            "1280 or 1420), or let ICMP `fragmentation needed` through",
            "error",
        )
    return good(f"16 KiB in one piece reach {', '.join(one.name for one in tried)}")


TRIPS: Final = Source(gather=_trips, limit_s=8.0)
CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check(
        "network.binds", "addresses to listen at are this machine's", Source(gather=_binds), judge_binds,
        "error",
    ),
    Check("network.names", "this machine knows its own names", Source(gather=_names), judge_names),
    Check("network.multicast", "multicast works", Source(gather=_multicast, limit_s=8.0), judge_multicast),
    Check("network.peers", "other hosts are near and let us in", TRIPS, judge_trips),
    Check("network.mtu", "large packets reach other hosts", TRIPS, judge_mtu),
)  # fmt: skip
