"""Who may speak to the client listener: Host and Origin, and sources on a LAN (INTERFACE "Browsers")."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from swarmplane.addresses import parse_address
from swarmplane.errors import InvalidRequestError

_SCHEMES: Final = ("app://", "tauri://", "file://", "vscode-webview://")
_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")
_REMEMBERED: Final = 256
"""Distinct Host and Origin values whose verdict is kept; more start over."""


class Access:
    """Verdicts for one listener, remembered by value: a client sends the same Host with every request.

    Args:
        loopback: Whether the listener is bound to loopback only, where a browser page could reach it by DNS
            rebinding.
        hosts: Further names that are ours.
        origins: Further origins that may act; ``*`` allows all.
        sources: Whether to admit private sources only.
    """

    def __init__(
        self,
        *,
        loopback: bool,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        sources: bool = False,
    ) -> None:
        self._loopback = loopback
        self._hosts = frozenset(
            {*(h.casefold() for h in hosts), "localhost", socket.gethostname().casefold()}
        )
        self._origins = frozenset(origin.casefold().rstrip("/") for origin in origins)
        self._sources = sources
        self._seen_hosts: dict[bytes, bool] = {}
        self._seen_origins: dict[bytes, bool] = {}

    def admits_host(self, value: bytes) -> bool:
        """Whether a request for this Host may be served."""
        verdict = self._seen_hosts.get(value)
        if verdict is None:
            verdict = _remember(self._seen_hosts, value, verdict=self._host(value.decode("latin-1")))
        return verdict

    def admits_origin(self, value: bytes) -> bool:
        """Whether a page of this Origin may act."""
        verdict = self._seen_origins.get(value)
        if verdict is None:
            verdict = _remember(self._seen_origins, value, verdict=self._origin(value.decode("latin-1")))
        return verdict

    def admits_source(self, host: str) -> bool:
        """Whether a connection from this address is accepted."""
        if not self._sources:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        shared = address.version == 4 and address in _SHARED  # noqa: PLR2004
        return address.is_private or address.is_loopback or address.is_link_local or shared

    def _host(self, value: str) -> bool:
        if not self._loopback:
            return bool(value)
        name = _host_of(value)
        return name is not None and (
            name in self._hosts or name.endswith((".local", ".internal", ".localhost")) or _is_address(name)
        )

    def _origin(self, value: str) -> bool:
        if value.casefold().startswith(_SCHEMES):
            return True
        origin = value.casefold().rstrip("/")
        if "*" in self._origins or origin in self._origins:
            return True
        scheme, separator, authority = origin.partition("://")
        name = _host_of(authority) if separator and scheme in {"http", "https"} else None
        return name is not None and (name == "localhost" or name.endswith(".localhost") or _is_loopback(name))


def _remember(verdicts: dict[bytes, bool], value: bytes, *, verdict: bool) -> bool:
    if len(verdicts) >= _REMEMBERED:
        verdicts.clear()
    verdicts[value] = verdict
    return verdict


def _host_of(value: str) -> str | None:
    if not value or value.startswith(":"):
        return None
    try:
        return parse_address(value, default_port=80).host.casefold().rstrip(".")
    except InvalidRequestError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
