"""Ports: who holds them, and who reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cli.doctor.asking import asked
from cli.doctor.check import AnyCheck, Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.host import ExaminedHost
from cli.exposure import GUARD, NEW_KEY, keyless
from swarmplane.addresses import Address, parse_address
from swarmplane.errors import SwarmError
from swarmplane.settings.schema import Settings

_FLAGS: Final = {
    "client": "--listen", "admin": "--admin-listen", "peer": "--peer-listen", "control": "--control-listen",
    "join": "--join-listen", "console": "--console-listen",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listener:
    """Somebody listens at a TCP port of this machine."""

    address: Address
    pid: int
    name: str
    """Of the program."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that this host has or wants, and everybody's listeners."""

    wanted: Mapping[str, Address]
    """By listener; those without a fixed port are left out."""
    listeners: tuple[Listener, ...]
    own: frozenset[int]
    """Pids of this host; empty while it does not run."""


def _ports(host: ExaminedHost) -> Ports:
    wanted = _in_use(host.runtime.urls) if host.runtime is not None else _configured(host)
    own = (
        frozenset((host.runtime.pid, *host.runtime.pids.values()))
        if host.runtime is not None
        else frozenset()
    )
    return Ports({name: one for name, one in wanted.items() if one.port}, _listeners(), own)


def _in_use(urls: Mapping[str, str]) -> dict[str, Address]:
    return {
        name: parse_address(url.rpartition("://")[2].rstrip("/"))
        for name, url in urls.items()
        if name in _FLAGS
    }


def _configured(host: ExaminedHost) -> dict[str, Address]:
    settings = host.settings
    if settings is None:
        raise SkippedError("the settings can't be read")
    wanted = {"client": settings.client_listeners()[0], "admin": settings.admin.listen}
    if settings.peer.listen:
        wanted["peer"] = settings.peer.listen
    if host.record is None or host.data_dir.control_plane.is_dir():
        wanted |= {
            "control": settings.control_listener(),
            "join": settings.join_listener(),
            "console": settings.control.console_listen,
        }
    return {name: parse_address(text) for name, text in wanted.items()}


def _listeners() -> tuple[Listener, ...]:
    import psutil

    try:
        found = [
            (Address(str(one.laddr.ip), int(one.laddr.port)), one.pid or 0)
            for one in psutil.net_connections(kind="tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr
        ]
    except psutil.AccessDenied:
        raise SkippedError("this system shows who listens to administrators only") from None
    return tuple(Listener(address, pid, _name(pid)) for address, pid in found)


def _name(pid: int) -> str:
    import psutil

    try:
        return psutil.Process(pid).name() if pid else ""
    except psutil.Error:
        return ""


def judge_ports(ports: Ports) -> Verdict:
    """Somebody else at a port of ours takes requests that were meant for us, or keeps us from starting."""
    taken = [
        (what, address, one)
        for what, address in ports.wanted.items()
        for one in ports.listeners
        if _same(one.address, address) and (one.pid or not ports.own) and one.pid not in ports.own
    ]
    if not taken:
        shown = ", ".join(f"{what} {address.port}" for what, address in ports.wanted.items())
        return good(f"{shown}: {'held by this host' if ports.own else 'free'}")
    words = [
        f"{address} ({what}) is held by {one.name or 'another user' + chr(39) + 's process'}"
        + (f" (pid {one.pid})" if one.pid else "")
        for what, address, one in taken
    ]
    flags = " ".join(dict.fromkeys(f"{_FLAGS[what]} HOST:PORT" for what, _, _ in taken))
    return bad("; ".join(words), f"stop it, or choose another port: swarmctl up {flags}")


def _same(held: Address, wanted: Address) -> bool:
    return held.port == wanted.port and (held.host == wanted.host or held.unspecified or wanted.unspecified)


def judge_exposure(exposure: Exposure) -> Verdict:
    """Without client keys a listener that others reach serves everybody; nobody, where they are asked for."""
    for words in exposure.keyless:
        return bad(words, NEW_KEY)
    shown = ", ".join(map(str, exposure.listeners))
    if not exposure.listeners:
        return good("clients are taken from this machine alone")
    if exposure.auth != "none":
        return good(f"{shown}: clients of other machines need an API key (client.auth = {exposure.auth})")
    return bad(
        f"everybody who reaches {shown} can use every model: clients need no key",
        f"{GUARD}. Or take this machine's clients alone: swarmctl up --listen 127.0.0.1:11400",
    )


@dataclass(frozen=True, slots=True)
class Exposure:
    """Whom the client listener serves."""

    listeners: tuple[Address, ...]
    """Those beyond loopback."""
    auth: str
    """As ``client.auth``."""
    keyless: tuple[str, ...] = ()
    """That keys are asked for and there is none."""


def _exposure(host: ExaminedHost) -> Exposure:
    listeners = _exposed(host, "client")
    auth = host.settings.client.auth if host.settings is not None else "none"
    return Exposure(listeners, auth, keyless(auth, _table(host) if auth != "none" else {}))


def _table(host: ExaminedHost) -> Mapping[str, Any]:
    """Empty where this host does not tell: that it should is another check's."""
    try:
        return asked(host, "admin", "/routes")
    except (SkippedError, SwarmError):
        return {}


def judge_admin(listeners: tuple[Address, ...]) -> Verdict:
    """Admin and console show prompts' traffic and settings, and are made for one machine."""
    if not listeners:
        return good("admin and console are for this machine alone")
    return bad(
        f"{', '.join(map(str, listeners))} can be reached from other machines",
        "bind them to loopback: swarmctl up --admin-listen 127.0.0.1:11402 --console-listen 127.0.0.1:11404; "
        "metrics have listeners of their own (--metrics-listen)",
    )


def _exposed(host: ExaminedHost, *names: str) -> tuple[Address, ...]:
    """Listeners beyond loopback: those bound, where that can be seen, else those of the settings."""
    if host.settings is None:
        raise SkippedError("the settings can't be read")
    found = _bound(host, names) if host.runtime is not None else None
    if found is None:
        found = [parse_address(text) for name in names for text in _of_settings(host.settings, name)]
    return tuple(dict.fromkeys(one for one in found if not one.loopback))


def _bound(host: ExaminedHost, names: tuple[str, ...]) -> list[Address] | None:
    """The URL of a listener on all interfaces names loopback, so its sockets are looked at."""
    try:
        ports = _ports(host)
    except SkippedError:
        return None
    wanted = {ports.wanted[name].port for name in names if name in ports.wanted}
    return [one.address for one in ports.listeners if one.pid in ports.own and one.address.port in wanted]


def _of_settings(settings: Settings, name: str) -> tuple[str, ...]:
    return {
        "client": settings.client_listeners(),
        "admin": (settings.admin.listen,),
        "console": (settings.control.console_listen,),
    }[name]


CHECKS: Final[tuple[AnyCheck, ...]] = (
    Check("network.ports", "ports are this host's or free", Source(gather=_ports), judge_ports, "error"),
    Check(
        "network.exposed", "clients are known, or near",
        Source(gather=_exposure), judge_exposure,
    ),
    Check(
        "network.admin", "admin listeners are near",
        Source(gather=lambda host: _exposed(host, "admin", "console")), judge_admin,
    ),
)  # fmt: skip
