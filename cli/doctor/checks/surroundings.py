"""Where this host runs: a machine that sleeps, a container, WSL, macOS and its permissions."""

from __future__ import annotations

import errno
import ipaddress
import os
import platform
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.checks.firewall import wanted_ports
from cli.doctor.host import ExaminedHost
from cli.doctor.multicast import GROUP, PORT
from cli.doctor.tools import ask
from swarmplane.addresses import Address, parse_address
from swarmplane.advertise import Interface, ipv4, machine_interfaces

_CONTAINER_MARKS: Final = {
    "/.dockerenv": "Docker",
    "/run/.containerenv": "Podman",
    "/var/run/secrets/kubernetes.io": "Kubernetes",
}
_POOLS: Final = tuple(
    map(
        ipaddress.ip_network,
        ("172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/14", "172.28.0.0/14", "10.88.0.0/16"),
    )
)
"""Networks that Docker and Podman give to containers unless told otherwise."""
_BRIDGES: Final = re.compile(r"(docker\d|podman\d|cni-podman\d|br-[0-9a-f]{12})")
_KERNEL: Final = Path("/proc/sys/kernel/osrelease")
"""Says ``…-microsoft-standard-WSL2`` there; other systems than Linux have no such file."""
_PERMISSION_SINCE: Final = 15
"""The version of macOS that asks whether a program may reach the local network."""


_ASSIGNED: Final = re.compile(r"^(\w+)=(\S.*?)\s*$", re.MULTILINE)
_AWAKE: Final = frozenset({"ignore", "lock"})
"""Actions of logind after which a machine goes on."""
_IN_MINUTES: Final = {"h": 60.0, "m": 1.0, "s": 1 / 60, "d": 1_440.0}


@dataclass(frozen=True, slots=True)
class Sleep:
    """When this machine sleeps by itself."""

    platform: str
    minutes: float | None
    """Idle time on mains; None: it does not, 0: when its lid is closed."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What macOS says to a datagram for the local network."""

    version: int
    root: bool
    error: int
    """``errno``; 0: none."""


def _founder(host: ExaminedHost) -> None:
    if not host.data_dir.control_plane.is_dir():
        raise SkippedError("no control plane is on this machine")


def _sleep(host: ExaminedHost) -> Sleep:
    _founder(host)
    if sys.platform == "darwin":
        said = ask("pmset", "-g", "custom")
        return Sleep("macos", macos_sleeps(said.text if said is not None else ""))
    if sys.platform == "win32":
        said = ask("powercfg", "/query", "SCHEME_CURRENT", "SUB_SLEEP", "STANDBYIDLE")
        return Sleep("windows", windows_sleeps(said.text if said is not None else ""))
    said = ask("systemctl", "is-enabled", "sleep.target", "suspend.target")
    told = ask("systemd-analyze", "cat-config", "systemd/logind.conf")
    targets, logind = (one.text if one is not None else "" for one in (said, told))
    return Sleep("linux", linux_sleeps(_portable(), targets, logind))


def _portable(supplies: Path = Path("/sys/class/power_supply")) -> bool:
    """Whether this machine has a battery of its own; that of a mouse has a scope."""
    try:
        batteries = [one for one in supplies.iterdir() if _word(one / "type") == "Battery"]
    except OSError:
        return False
    return any(_word(one / "scope") != "Device" for one in batteries)


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def macos_sleeps(text: str) -> float | None:
    """Minutes after which a Mac on mains sleeps, by ``pmset -g custom``; None: never."""
    mains = text.partition("AC Power:")[2] or text
    found = re.search(r"^\s*sleep\s+(\d+)", mains, re.MULTILINE)
    return float(found[1]) if found is not None and int(found[1]) else None


def windows_sleeps(text: str) -> float | None:
    """The same by ``powercfg /query … STANDBYIDLE``, its last two figures in any language: mains, battery."""
    figures = re.findall(r"0x([0-9a-fA-F]{8})", text)
    seconds = int(figures[-2], 16) if len(figures) >= 2 else 0  # noqa: PLR2004 - mains and battery
    return seconds / 60 if seconds else None


def linux_sleeps(portable: bool, targets: str, logind: str = "") -> float | None:
    """Minutes after which a Linux machine on mains sleeps, 0: when its lid is closed; None: it does not.

    Args:
        portable: It has a battery, so a lid.
        targets: ``systemctl is-enabled sleep.target suspend.target``: masked ones keep it awake.
        logind: ``systemd-analyze cat-config systemd/logind.conf``; what it does not say is as systemd does.
    """
    if "masked" in targets:
        return None
    told = {name: value.casefold() for name, value in _ASSIGNED.findall(logind)}
    lid = told.get("HandleLidSwitchExternalPower") or told.get("HandleLidSwitch") or "suspend"
    if portable and lid not in _AWAKE:
        return 0.0
    return _minutes(told.get("IdleActionSec", "")) if told.get("IdleAction", "ignore") not in _AWAKE else None


def _minutes(span: str) -> float:
    """Of a time span of systemd's, ``1h 30min`` or seconds; 30 where it says nothing, as systemd does."""
    parts = re.findall(r"(\d+)\s*([a-z]*)", span)
    return sum(int(count) * _IN_MINUTES.get(unit[:1], 1 / 60) for count, unit in parts) if parts else 30.0


def judge_sleep(sleep: Sleep) -> Verdict:
    """While the founder sleeps nobody joins, and nothing changes in the swarm."""
    if sleep.minutes is None:
        return good("this machine does not sleep by itself")
    when = "when its lid is closed" if not sleep.minutes else f"after {sleep.minutes:.0f} min without input"
    fixes = {
        "macos": "sudo pmset -c sleep 0 disablesleep 1, or run it under caffeinate -s",
        "windows": "powercfg /change standby-timeout-ac 0",
        "linux": "sudo systemctl mask sleep.target suspend.target hibernate.target hybrid-sleep.target",
    }
    return bad(
        f"this machine founded the swarm and sleeps {when}",
        f"{fixes[sleep.platform]}; or move the founder: swarmctl store move",
    )


def _wsl(host: ExaminedHost) -> str:
    if "microsoft" not in _word(_KERNEL).casefold():
        raise SkippedError("this is not WSL")
    wanted_ports(host)
    said = ask("wslinfo", "--networking-mode")
    return said.text.split()[0] if said is not None and said.text else "nat"


def judge_wsl(mode: str) -> Verdict:
    """Behind the NAT of WSL no other machine reaches this host, and multicast does not cross it."""
    if mode in {"mirrored", "bridged"}:
        return good(f"WSL's network is {mode}")
    return bad(
        f"WSL's network is {mode}: other machines don't reach what listens here",
        "put `[wsl2]` and `networkingMode=mirrored` into %UserProfile%\\.wslconfig, then wsl --shutdown; "
        "or run swarmctl in Windows itself",
    )


@dataclass(frozen=True, slots=True)
class Inside:
    """A container."""

    kind: str
    addresses: tuple[str, ...]


def _inside(host: ExaminedHost) -> Inside:
    kind = next((name for mark, name in _CONTAINER_MARKS.items() if Path(mark).exists()), "")
    if not kind:
        raise SkippedError("this is no container")
    wanted_ports(host)
    interfaces = [one for one in machine_interfaces() if one.up]
    found = [address for one in interfaces for address in ipv4(one.addresses)]
    return Inside(kind, tuple(one for one in found if not Address(one, 0).loopback))


def judge_inside(inside: Inside) -> Verdict:
    """On a bridge of its own a container hears no mDNS, and others don't reach its addresses."""
    if not inside.addresses or not all(_in_pool(one) for one in inside.addresses):
        return good(f"in {inside.kind}, with {', '.join(inside.addresses) or 'no address'}")
    return bad(
        f"{inside.kind} gave it {', '.join(inside.addresses)}, on a bridge that others don't reach and "
        "mDNS does not cross",
        "run it with --network host; or publish its ports (-p 11400:11400 -p 11403:11403, and 11401, "
        "11405 of a founder), say the machine's address (swarmctl up --advertise HOST), and join by address",
    )


def _in_pool(address: str) -> bool:
    one = ipaddress.ip_address(address)
    return any(one in pool for pool in _POOLS)


@dataclass(frozen=True, slots=True)
class Containers:
    """Containers of this machine, and what they could ask."""

    bridges: tuple[str, ...]
    """Addresses of this machine on their bridges, with the network's bits."""
    client: tuple[Address, ...]


def _containers(host: ExaminedHost) -> Containers:
    if host.settings is None:
        raise SkippedError("the settings can't be read")
    bridges = bridges_of(machine_interfaces())
    if not bridges:
        raise SkippedError("there is no bridge of containers on this machine")
    return Containers(bridges, tuple(map(parse_address, host.settings.client_listeners())))


def bridges_of(interfaces: tuple[Interface, ...]) -> tuple[str, ...]:
    """IPv4 addresses of this machine on bridges of Docker and Podman that are up."""
    found = [one for one in interfaces if one.up and _BRIDGES.fullmatch(one.name)]
    return tuple(address for one in found for address in ipv4(one.addresses))


def judge_containers(containers: Containers) -> Verdict:
    """``127.0.0.1`` inside a container is the container."""
    hosts = {one.host for one in containers.client}
    if any(one.unspecified for one in containers.client) or set(containers.bridges) <= hosts:
        return good(f"containers ask {', '.join(containers.bridges)}")
    port = containers.client[0].port
    listen = ",".join([*map(str, containers.client), *(f"{one}:{port}" for one in containers.bridges)])
    nets = ",".join(str(ipaddress.ip_network(f"{one}/16", strict=False)) for one in containers.bridges)
    return bad(
        f"programs in containers of this machine can't ask this host: it listens at "
        f"{', '.join(map(str, containers.client))}",
        f"swarmctl config set client.listen={listen} client.trusted_nets={nets}, restart, and ask "
        f"http://host.docker.internal:{port} there (--add-host host.docker.internal:host-gateway)",
        "info",
    )


def _permission(host: ExaminedHost) -> Permission:
    if sys.platform != "darwin":
        raise SkippedError("this is not macOS")
    wanted_ports(host)
    version = int(platform.mac_ver()[0].partition(".")[0] or 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.sendto(b"\0" * 12, (GROUP, PORT))
        except OSError as error:
            return Permission(version, os.geteuid() == 0, error.errno or 0)
    return Permission(version, os.geteuid() == 0, 0)


def judge_permission(permission: Permission) -> Verdict:
    """Without it, programs of a user can send nothing to the local network."""
    denied = permission.error in {errno.EHOSTUNREACH, errno.EPERM}
    if permission.version < _PERMISSION_SINCE or permission.root or not denied:
        return good(f"macOS {permission.version} lets this program reach the local network")
    return bad(
        f"macOS {permission.version} keeps this program from the local network",
        "System Settings, Privacy & Security, Local Network: switch on the terminal (and restart it); a "
        "service needs no permission as a LaunchDaemon: sudo swarmctl service install",
        "error",
    )


SLEEP: Final[AnyCheck] = Check(
    "machine.sleep", "the founder stays awake", Source(gather=_sleep, limit_s=8.0), judge_sleep
)
CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("network.wsl", "WSL lets other machines in", Source(gather=_wsl), judge_wsl),
    Check("network.container", "others reach this container", Source(gather=_inside), judge_inside),
    Check(
        "network.containers", "containers of this machine reach it", Source(gather=_containers),
        judge_containers, "info",
    ),
    Check(
        "network.permission", "macOS lets it reach the local network", Source(gather=_permission),
        judge_permission,
    ),
)  # fmt: skip
