"""Everything an operator can set; units are in the names.

One file serves every process of a host. The names are the paths of ``config.toml``, of the environment
(``SWARMPLANE_CLIENT__LISTEN``) and of ``--set client.listen=...``. Components derive frozen policy values for
their cores from these models; the cores never see pydantic.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from swarmplane.addresses import parse_address
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import is_node_name
from swarmplane.ports import ADMIN_PORT, CLIENT_PORT, CONSOLE_PORT, CONTROL_PORT, JOIN_PORT
from swarmplane.settings.backend import BackendSettings
from swarmplane.settings.section import Section
from swarmplane.settings.serving import BreakerSettings, HedgeSettings, QueueSettings, UpstreamSettings

_ETCD_CLIENTS = 2379
_LARGEST = 65_535


def _address(text: str, default_port: int | None = None) -> str:
    try:
        parse_address(text, default_port=default_port)
    except InvalidRequestError as error:
        raise ValueError(error.message) from None
    return text


class NodeSettings(Section):
    """This host."""

    name: str = ""
    """Wished name, a DNS label; empty: from the host name."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free labels, for placement."""
    advertise: tuple[str, ...] = ()
    """Hosts (names or addresses, without port) told to others; empty: found out."""
    lan: bool = False
    """Whether the client, control and enrolment listeners default to all interfaces."""
    gateway: bool = False
    """Whether this host is meant as the URL for clients; it is told of, nothing else changes."""

    @field_validator("name")
    @classmethod
    def _is_label(cls, name: str) -> str:
        if name and not is_node_name(name):
            raise ValueError("a node is named by lower-case letters, digits and inner dashes, at most 63")
        return name


class SwarmSettings(Section):
    """The swarm this host founds."""

    name: str = "swarm"
    """Name people see."""
    open: bool = False
    """Found an open swarm: hosts join it without a token. Later: ``swarmctl enrolment open``."""
    secret_file: Path | None = None
    """The swarm secret, for an instance on a host that was not enrolled as one."""


class ClientSettings(Section):
    """The client listener."""

    listen: tuple[str, ...] = ()
    """``host:port``; empty: 127.0.0.1:11400, or all interfaces with ``node.lan``."""
    head_timeout_s: PositiveFloat = 10.0
    """Longest time from a connection's begin, or a request's first byte, to the end of the request's head."""
    body_timeout_s: PositiveFloat = 60.0
    """Longest silence while a request's body arrives."""
    min_body_rate: NonNegativeInt = 1024
    """Bytes a second at which a request's body must arrive, averaged over a minute; less is 408. 0: any."""
    idle_timeout_s: PositiveFloat = 300.0
    """Idle keep-alive connections are closed after this."""
    max_connections: PositiveInt = 10_000
    """More are closed at accept."""
    max_head_bytes: PositiveInt = 64 * 1024
    """Request line and headers together; more is 431."""
    max_json_bytes: PositiveInt = 64 * 1024 * 1024
    """Largest body; more is 413."""
    max_multipart_bytes: PositiveInt = 256 * 1024 * 1024
    """Largest body of kind multipart; more is 413."""
    max_buffered_bytes: PositiveInt = 512 * 1024 * 1024
    """Bodies held by the process at a time."""
    hosts: tuple[str, ...] = ()
    """Further values of Host that are ours on a loopback bind."""
    origins: tuple[str, ...] = ()
    """Further Origins that may act."""
    manage: Literal["local", "off", "swarm"] = "local"
    """Pulling, creating, copying and deleting models, and ``keep_alive`` 0 and -1: by this host's clients and
    by keys that may manage, at its own backends; not at all; or at other nodes' too, where both say so."""
    auth: Literal["none", "lan", "always"] = "none"
    """Who needs an API key: nobody; clients of other machines; everybody."""
    offline_keys_s: float | None = Field(default=None, ge=0)
    """So long API keys hold without a word from a control plane; unset: a day, on loopback for ever."""
    trusted_nets: tuple[str, ...] = ()
    """Networks, as ``172.17.0.0/16``, whose clients count as this host's own: those of its containers."""
    loopback_is_local: bool = True
    """Whether clients of loopback count as this host's own. Off: a proxy on this machine passes requests of
    others on without a forwarding header."""

    @field_validator("listen")
    @classmethod
    def _are_addresses(cls, listen: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_address(text) for text in listen)

    @field_validator("trusted_nets")
    @classmethod
    def _are_networks(cls, nets: tuple[str, ...]) -> tuple[str, ...]:
        for net in nets:
            try:
                ipaddress.ip_network(net)
            except ValueError:
                raise ValueError(f"{net!r} is no network; write it as 172.17.0.0/16") from None
        return nets


class PeerSettings(Section):
    """The peer listener."""

    listen: str = ""
    """``host:port``; empty: port 11403 at the address that reaches the control plane."""

    @field_validator("listen")
    @classmethod
    def _is_address(cls, text: str) -> str:
        return text and _address(text)


class AdminSettings(Section):
    """The sidecar's admin listener."""

    listen: str = f"127.0.0.1:{ADMIN_PORT}"
    """``host:port``."""

    @field_validator("listen")
    @classmethod
    def _is_address(cls, text: str) -> str:
        return _address(text)


class ControlSettings(Section):
    """The control plane's listeners, and how nodes are counted."""

    listen: str = ""
    """gRPC, ``host:port``; empty: 127.0.0.1:11401, or all interfaces with ``node.lan``."""
    join_listen: str = ""
    """Enrolment, ``host:port``; empty: as ``listen``, port 11405."""
    console_listen: str = f"127.0.0.1:{CONSOLE_PORT}"
    """Console and control-plane admin, ``host:port``."""
    metrics_listen: str = ""
    """Metrics on a listener of their own, ``host:port`` (port 11407 by custom); empty: none."""
    heartbeat_s: PositiveFloat = 2.0
    """Time between two signs of life of a sidecar."""
    suspect_s: PositiveFloat = 5.0
    """Silence after which a node is suspected: it costs more, it is not excluded."""
    lease_ttl_s: PositiveFloat = 10.0
    """Silence after which a node's lease ends."""
    removal_hold_s: NonNegativeFloat = 60.0
    """Removals wait this long after a mass loss or an outage of our own."""
    load_interval_s: PositiveFloat = 0.25
    """Least time between two load reports of a sidecar."""
    forget_models_s: NonNegativeFloat = 86_400.0
    """A gone node's model names stay known this long (503, not 404)."""
    debounce_s: NonNegativeFloat = 0.1
    """Route pushes are gathered this long; removals go at once."""
    certificate_life_s: float = Field(default=604_800.0, ge=2, le=7_776_000)
    """New certificates of nodes and instances live this long; they are renewed when a third of it is over."""
    backup_dir: Path | None = None
    """Where the embedded store is backed up every day; unset: ``backups`` in the data directory."""
    backups_kept: NonNegativeInt = 7
    """Daily backups kept; 0: none are made."""

    @field_validator("listen", "join_listen", "console_listen", "metrics_listen")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        return text and _address(text)


class EtcdSettings(Section):
    """The etcd cluster that keeps the swarm of several control planes."""

    endpoints: tuple[str, ...] = ()
    """``http(s)://host:port`` of its members; empty: the embedded store, for one control plane."""
    ca_file: Path | None = None
    """Authorities that sign the members' certificates; unset: the machine's own."""
    cert_file: Path | None = None
    """Certificate shown to the members."""
    key_file: Path | None = None
    """Its key."""
    user: str = ""
    """Name to log in with; empty: nobody logs in."""
    password_file: Path | None = None
    """Holds the user's password, in its first line."""
    server_name: str = ""
    """Name in the members' certificates, where it is not the host of the endpoint."""
    prefix: str = ""
    """All keys begin with it; empty: ``/swarmplane/<swarm.name>/``."""

    @field_validator("endpoints")
    @classmethod
    def _are_addresses(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in endpoints:
            scheme, separator, rest = endpoint.rpartition("://")
            if (separator and scheme not in {"http", "https"}) or not rest.strip("/"):
                raise ValueError(f"{endpoint!r}: write http://HOST:PORT or https://HOST:PORT")
            _address(rest.rstrip("/"), default_port=_ETCD_CLIENTS)
        return endpoints


class EngineSettings(Section):
    """Engines that the sidecar runs itself."""

    models: tuple[str, ...] = ()
    """Models to serve: GGUF paths, or names found in ``models_dir``."""
    models_dir: Path | None = None
    """Folder with GGUF files."""
    kind: Literal["auto", "llama-server", "xllamacpp", "llama-cpp-python"] = "auto"
    """Which engine serves models; ``auto``: the first that is found, in this order."""
    binary: Path | None = None
    """A ``llama-server`` to use; empty: found."""
    context_length: NonNegativeInt = 0
    """Tokens per slot; 0: the model's own, at most 8,192."""
    slots: PositiveInt = 4
    """Requests served at a time, per model."""
    threads: NonNegativeInt = 0
    """0: the number of physical cores."""
    gpu_layers: int = -1
    """Layers on the accelerator; -1: all that fit."""
    memory_headroom_ratio: NonNegativeFloat = 0.1
    """Share of the estimate that must stay free besides it."""
    start_timeout_s: PositiveFloat = 600.0
    """Longest time from start to ready."""
    stop_timeout_s: PositiveFloat = 10.0
    """Time to stop by itself; then it is killed."""


class DiscoverySettings(Section):
    """What is looked for without being named."""

    backends: bool = True
    """Whether inference servers on this host are looked for."""
    ports: tuple[int, ...] = (11434, 1234, 41334, 8000, 8001, 8080, 8081, 8088, 30000, 10240, 1337)
    """Ports of this machine where they are looked for, besides those that variables name."""
    ignore: tuple[str, ...] = ()
    """Those that are not wanted though they are there: their names, or ``host:port``."""
    mdns: bool = True
    """Whether swarms are advertised and browsed on the local network."""
    subnets: tuple[str, ...] = ()
    """Networks to scan where mDNS finds nobody, as ``192.168.1.0/24``; empty: those of the own addresses."""
    peers: tuple[str, ...] = ()
    """``host`` or ``host:port`` of members' client listeners that are asked wherever they are."""

    @field_validator("ports")
    @classmethod
    def _are_ports(cls, ports: tuple[int, ...]) -> tuple[int, ...]:
        for port in ports:
            if not 0 < port <= _LARGEST:
                raise ValueError(f"{port} is no port")
        return ports


class LogSettings(Section):
    """What is written where."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line."""
    access: str = ""
    """Access log: a path, ``-`` for stdout, empty for none."""
    access_max_bytes: PositiveInt = 64 * 1024 * 1024
    """The access log's file is turned over before it grows larger."""
    access_files: PositiveInt = 5
    """Files of the access log that are kept, the current one included."""


class OtlpSettings(Section):
    """Traces and metrics to an OpenTelemetry collector, by OTLP over HTTP.

    What is not set here is taken from the standard ``OTEL_*`` variables.
    """

    endpoint: str = ""
    """``http(s)://host:port`` of the collector; empty: ``OTEL_EXPORTER_OTLP_ENDPOINT``, else off."""
    headers_file: Path | None = None
    """Headers sent with every export, ``name: value`` a line; for credentials."""
    sample_ratio: float | None = Field(default=None, ge=0, le=1)
    """Share of the traces that begin here; unset: ``OTEL_TRACES_SAMPLER`` and its argument, else all."""
    timeout_s: float | None = Field(default=None, gt=0)
    """Longest time for one export; unset: ``OTEL_EXPORTER_OTLP_TIMEOUT``, else 10."""

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, endpoint: str) -> str:
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"{endpoint!r} is no URL; write http://HOST:PORT, as http://127.0.0.1:4318")
        return endpoint


class TelemetrySettings(Section):
    """What is told about requests, and to whom."""

    metrics_listen: str = ""
    """Metrics on a listener of their own, ``host:port`` (port 11406 by custom); empty: none."""
    records: PositiveInt = Field(default=4096, le=1_048_576)
    """Ended requests that wait to be counted; more at a time are dropped from telemetry, and counted."""
    otlp: OtlpSettings = OtlpSettings()

    @field_validator("metrics_listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        return _address(listen) if listen else listen


class ConfigSettings(Section):
    """How this configuration itself is read."""

    lenient: bool = False
    """Unknown keys warn instead of failing."""


class Settings(Section):
    """All of it. Given as ``[section]`` tables; ``drain_s`` stands at the top."""

    drain_s: NonNegativeFloat = 60.0
    """How long running streams may take to finish when a sidecar stops."""
    node: NodeSettings = NodeSettings()
    swarm: SwarmSettings = SwarmSettings()
    client: ClientSettings = ClientSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    queue: QueueSettings = QueueSettings()
    breaker: BreakerSettings = BreakerSettings()
    hedge: HedgeSettings = HedgeSettings()
    peer: PeerSettings = PeerSettings()
    admin: AdminSettings = AdminSettings()
    control: ControlSettings = ControlSettings()
    etcd: EtcdSettings = EtcdSettings()
    backends: tuple[BackendSettings, ...] = ()
    engine: EngineSettings = EngineSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    config: ConfigSettings = ConfigSettings()

    def client_listeners(self) -> tuple[str, ...]:
        """Addresses of the client listener, with the defaults filled in."""
        return self.client.listen or (_default(CLIENT_PORT, lan=self.node.lan),)

    def control_listener(self) -> str:
        """Address of the control listener, with the default filled in."""
        return self.control.listen or _default(CONTROL_PORT, lan=self.node.lan)

    def join_listener(self) -> str:
        """Address of the enrolment listener: by default the control listener's host, port 11405."""
        if self.control.join_listen:
            return self.control.join_listen
        return f"{self.control_listener().rpartition(':')[0]}:{JOIN_PORT}"


def _default(port: int, *, lan: bool) -> str:
    return f"0.0.0.0:{port}" if lan else f"127.0.0.1:{port}"
