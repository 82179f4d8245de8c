"""Where etcd is, how to be let in, and how long to wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from swarmplane.addresses import Address, parse_address
from swarmplane.errors import InvalidRequestError

CLIENT_PORT: Final = 2379


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """TLS towards etcd. Without ``ca_pem`` the machine's own roots count; all in PEM."""

    ca_pem: bytes | None = None
    certificate_pem: bytes | None = None
    key_pem: bytes | None = field(default=None, repr=False)
    server_name: str = ""
    """The name in the members' certificates, where it is not the host of the endpoint."""


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """A cluster and a place in it. Made by :meth:`of`.

    All keys stand below ``prefix``, which also bounds what the role of ``user`` must allow: reading and
    writing from ``prefix`` on up to the end of that prefix.
    """

    endpoints: tuple[Address, ...]
    tls: EtcdTls | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    prefix: str = ""

    @classmethod
    def of(
        cls,
        endpoints: Sequence[str],
        *,
        tls: EtcdTls | None = None,
        user: str = "",
        password: str = "",
        prefix: str = "",
    ) -> EtcdAccess:
        """Out of ``host:port``, ``http://host:port`` or ``https://host:port``; the port defaults to 2379.

        Raises:
            InvalidRequestError: An address is none, http and https are mixed, or they contradict ``tls``.
        """
        schemes: set[str] = set()
        addresses: list[Address] = []
        for endpoint in endpoints:
            scheme, separator, rest = endpoint.strip().rpartition("://")
            schemes.add(scheme if separator else "https" if tls else "http")
            addresses.append(parse_address(rest.rstrip("/"), default_port=CLIENT_PORT))
        if not addresses:
            raise InvalidRequestError("etcd needs at least one endpoint, as 10.0.0.1:2379.")
        if len(schemes) != 1 or not schemes <= {"http", "https"}:
            raise InvalidRequestError("etcd's endpoints are all http:// or all https://.")
        if schemes == {"http"} and tls is not None:
            raise InvalidRequestError("TLS towards etcd needs endpoints with https://.")
        secured = (tls or EtcdTls()) if schemes == {"https"} else None
        return cls(tuple(dict.fromkeys(addresses)), secured, user, password, prefix)


@dataclass(frozen=True, slots=True)
class EtcdTiming:
    """How long to wait. The defaults suit members in one region whose elections take a second or two.

    A member that neither answers nor refuses is left after ``attempt_s``; in each round over all members
    they get that much longer, up to four times, so that a slow cluster is slow and not out of reach.
    """

    attempt_s: float = 0.3
    give_up_s: float = 6.0
    """A call ends after this; a write whose outcome is unknown may take as long again to find it out."""
    probe_s: float = 0.5
    """A silent watch is asked this often how far it is."""
    silence_s: float = 1.25
    """A member that leaves that unanswered is frozen: the watch goes on at another."""
    bookmark_s: float = 5.0
    lost_s: float = 10.0
    """A watch that has had no contact for so long says so to its reader, each time that passes."""
    backoff_s: float = 0.05
    max_backoff_s: float = 1.0
