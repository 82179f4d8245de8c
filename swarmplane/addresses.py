"""``host:port`` as text and back."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from swarmplane.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name or IP, without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it. Names other than ``localhost`` count as reachable."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def unspecified(self) -> bool:
        """Whether it stands for all interfaces."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return not self.host


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Read ``host:port``, ``[v6]:port``, ``:port`` (all interfaces), or a host alone with ``default_port``.

    Raises:
        InvalidRequestError: It is none of these, or the port is not in 0 to 65,535.
    """
    host, separator, port_text = text.strip().rpartition(":")
    if not separator or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port_text = text.strip(), "" if default_port is None else str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= 65_535):  # noqa: PLR2004
        raise InvalidRequestError(f"{text!r} is no address; write HOST:PORT, as 127.0.0.1:11400")
    return Address(host or "0.0.0.0", int(port_text))
