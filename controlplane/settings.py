"""What the control plane takes from the settings, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.store.etcd.access import EtcdAccess, EtcdTls
from swarmplane.addresses import Address, parse_address
from swarmplane.advertise import this_machine
from swarmplane.errors import InvalidRequestError, reason_of
from swarmplane.ports import CONSOLE_PORT, CONTROL_METRICS_PORT, CONTROL_PORT, JOIN_PORT
from swarmplane.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class ListenPolicy:
    """Where the listeners are."""

    control: Address
    join: Address
    console: Address
    metrics: Address | None
    """A listener for metrics alone; None: there is none."""
    advertise: tuple[str, ...]
    """Hosts told to others; empty: found out."""

    @classmethod
    def of(cls, settings: Settings) -> ListenPolicy:
        """Out of the settings of a host.

        Raises:
            InvalidRequestError: An address is none.
        """
        metrics = settings.control.metrics_listen
        return cls(
            parse_address(settings.control_listener(), default_port=CONTROL_PORT),
            parse_address(settings.join_listener(), default_port=JOIN_PORT),
            parse_address(settings.control.console_listen, default_port=CONSOLE_PORT),
            parse_address(metrics, default_port=CONTROL_METRICS_PORT) if metrics else None,
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


def etcd_access(settings: Settings) -> EtcdAccess | None:
    """Where etcd is and how to be let in; None: the embedded store. It reads files, so it blocks.

    Raises:
        InvalidRequestError: Endpoints, TLS and files contradict each other, or a file can't be read.
    """
    etcd = settings.etcd
    if not etcd.endpoints:
        return None
    if (etcd.cert_file is None) != (etcd.key_file is None):
        raise InvalidRequestError("a certificate towards etcd needs its key, and a key its certificate")
    if etcd.user and etcd.password_file is None:
        raise InvalidRequestError("etcd.user needs etcd.password_file (--etcd-password-file)")
    secured = etcd.ca_file or etcd.cert_file or etcd.server_name
    tls = (
        EtcdTls(
            _content(etcd.ca_file, "etcd.ca_file"),
            _content(etcd.cert_file, "etcd.cert_file"),
            _content(etcd.key_file, "etcd.key_file"),
            etcd.server_name,
        )
        if secured
        else None
    )
    return EtcdAccess.of(
        etcd.endpoints,
        tls=tls,
        user=etcd.user,
        password=_password(etcd.password_file),
        prefix=etcd.prefix or f"/swarmplane/{settings.swarm.name}/",
    )


def _password(path: Path | None) -> str:
    try:
        return (_content(path, "etcd.password_file") or b"").decode().partition("\n")[0].strip()
    except UnicodeDecodeError:
        # Not the error itself: it quotes the content.
        raise InvalidRequestError(f"etcd.password_file: {path} is not UTF-8 text") from None


def _content(path: Path | None, key: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"{key}: {path} can't be read: {reason_of(error)}") from None
