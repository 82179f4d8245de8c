"""What the data plane may be told, as one plain value: it never sees pydantic on the request path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sidecar.core.breaker import Policy as BreakerPolicy
from sidecar.core.deadlines import FirstBytePolicy
from sidecar.core.hedging import HedgePolicy
from sidecar.core.queue_values import QueuePolicy
from sidecar.core.slots import Settling
from sidecar.core.slow_start import SlowStart
from swarmplane.addresses import parse_address
from swarmplane.settings.schema import Settings
from swarmplane.settings.section import Section
from swarmplane.settings.serving import BreakerSettings, HedgeSettings, QueueSettings

_UNKNOWN_S: Final = 30.0
"""Wait for the first byte of an endpoint without history."""
_OFFLINE_KEYS_S: Final = 86_400.0
"""So long keys hold by default where others reach the client listener."""
_SAME_NAME: Final = (
    "node.gateway",
    "client.head_timeout_s",
    "client.body_timeout_s",
    "client.min_body_rate",
    "client.idle_timeout_s",
    "client.max_connections",
    "client.manage",
    "client.auth",
    "client.offline_keys_s",
    "client.trusted_nets",
    "client.loopback_is_local",
    "client.max_head_bytes",
    "client.max_json_bytes",
    "client.max_multipart_bytes",
    "client.max_buffered_bytes",
    "upstream.connect_timeout_s",
    "upstream.first_byte_timeout_s",
    "upstream.stall_timeout_s",
    "upstream.stall_floor_s",
    "upstream.idle_backend_s",
    "upstream.idle_peer_s",
    "upstream.max_idle",
    "upstream.retry_budget_min",
    "upstream.retry_budget_ratio",
)
_DERIVED: Final[Mapping[str, type[Section]]] = {
    "queue": QueueSettings,
    "breaker": BreakerSettings,
    "hedge": HedgeSettings,
}
_DERIVED_FIELDS: Final = (
    "queue",
    "learn_slots",
    "loading_wait_s",
    "breaker",
    "slow_start",
    "hedge",
    "first_byte",
)
LIVE: Final = (
    *_SAME_NAME,
    "upstream.first_byte_floor_s",
    *(f"{table}.{name}" for table, section in _DERIVED.items() for name in section.model_fields),
)
"""Settings that a running data plane takes into use: what begins from then on goes by them."""


@dataclass(frozen=True, slots=True)
class DataPlanePolicy:
    """Limits and time-outs. See :mod:`swarmplane.settings.schema` for what each means."""

    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    min_body_rate: int = 1024
    body_rate_window_s: float = 60.0
    """Over which time a body's rate is averaged."""
    idle_timeout_s: float = 300.0
    max_connections: int = 10_000
    manage: str = "local"
    """Who changes which backends: ``local``, ``off`` or ``swarm``."""
    gateway: bool = False
    """Whether this host is meant as the URL for clients."""
    auth: str = "none"
    """Who needs a key: ``none``, ``lan`` or ``always``."""
    offline_keys_s: float = math.inf
    """So long keys hold without a word from a control plane."""
    trusted_nets: tuple[str, ...] = ()
    """Networks whose clients count as this host's own."""
    loopback_is_local: bool = True
    """Whether those of loopback do."""
    max_head_bytes: int = 64 * 1024
    max_json_bytes: int = 64 * 1024 * 1024
    max_multipart_bytes: int = 256 * 1024 * 1024
    max_buffered_bytes: int = 512 * 1024 * 1024
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    connect_timeout_s: float = 2.0
    first_byte_timeout_s: float = 600.0
    stall_timeout_s: float = 300.0
    stall_floor_s: float = 60.0
    idle_backend_s: float = 4.0
    idle_peer_s: float = 60.0
    max_idle: int = 256
    retry_budget_min: int = 3
    retry_budget_ratio: float = 0.2
    max_pipelined: int = 16
    max_pipelined_bytes: int = 64 * 1024
    max_collected_bytes: int = 1024 * 1024
    """A non-stream answer up to this size is held until it is whole, so that a broken one can be retried."""
    max_held_bytes: int = 64 * 1024
    """What a stream's relay holds back after the last line end, and before the first event."""
    expect_bytes: int = 64 * 1024
    """Bodies above this cross a hop only after ``100 Continue``."""
    linger_s: float = 2.0
    """After a refusal that closes, what the client still sends is read and dropped for this long."""
    phase_after_s: float = 1.0
    """An owner that has no answer by then reports its phase."""
    tick_s: float = 0.1
    """Resolution of time-outs."""
    queue: QueuePolicy = field(default_factory=QueuePolicy)
    """One queue per model of this host."""
    settling: Settling = field(default_factory=Settling)
    """When a slot is free again after we closed the connection."""
    learn_slots: bool = True
    """Whether slots that nobody names are learned."""
    loading_wait_s: float = 300.0
    first_byte: FirstBytePolicy = field(default_factory=FirstBytePolicy)
    """How long an attempt may run without a byte while another candidate exists."""
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    slow_start: SlowStart = field(default_factory=SlowStart)
    hedge: HedgePolicy = field(default_factory=HedgePolicy)
    """Second copies of late requests."""
    first_byte_least_s: float = field(init=False)
    """No attempt is given up earlier for want of a byte, whatever was measured: derived."""

    def __post_init__(self) -> None:
        first = self.first_byte
        least_s = min(first.floor_s, first.hard_s, self.first_byte_timeout_s)
        object.__setattr__(self, "first_byte_least_s", least_s)

    def adopting(self, other: DataPlanePolicy) -> DataPlanePolicy:
        """This one, with the values of ``other`` for :data:`LIVE` settings."""
        names = (*(key.rpartition(".")[2] for key in _SAME_NAME), *_DERIVED_FIELDS)
        return replace(self, **{name: getattr(other, name) for name in names})

    @classmethod
    def of(cls, settings: Settings) -> DataPlanePolicy:
        """The policy that ``settings`` describe."""
        client, upstream = settings.client, settings.upstream
        return cls(
            head_timeout_s=client.head_timeout_s,
            body_timeout_s=client.body_timeout_s,
            min_body_rate=client.min_body_rate,
            idle_timeout_s=client.idle_timeout_s,
            max_connections=client.max_connections,
            manage=client.manage,
            gateway=settings.node.gateway,
            auth=client.auth,
            offline_keys_s=_offline_keys_s(settings),
            trusted_nets=client.trusted_nets,
            loopback_is_local=client.loopback_is_local,
            max_head_bytes=client.max_head_bytes,
            max_json_bytes=client.max_json_bytes,
            max_multipart_bytes=client.max_multipart_bytes,
            max_buffered_bytes=client.max_buffered_bytes,
            hosts=client.hosts,
            origins=client.origins,
            connect_timeout_s=upstream.connect_timeout_s,
            first_byte_timeout_s=upstream.first_byte_timeout_s,
            stall_timeout_s=upstream.stall_timeout_s,
            stall_floor_s=upstream.stall_floor_s,
            idle_backend_s=upstream.idle_backend_s,
            idle_peer_s=upstream.idle_peer_s,
            max_idle=upstream.max_idle,
            retry_budget_min=upstream.retry_budget_min,
            retry_budget_ratio=upstream.retry_budget_ratio,
            queue=_queue_policy(settings.queue),
            learn_slots=settings.queue.learn_slots,
            loading_wait_s=settings.queue.loading_wait_s,
            breaker=_breaker_policy(settings.breaker),
            slow_start=SlowStart(window_s=settings.breaker.slow_start_s),
            hedge=_hedge_policy(settings.hedge),
            first_byte=FirstBytePolicy(
                floor_s=upstream.first_byte_floor_s,
                unknown_s=max(upstream.first_byte_floor_s, _UNKNOWN_S),
                hard_s=upstream.first_byte_timeout_s,
            ),
        )


def _offline_keys_s(settings: Settings) -> float:
    if settings.client.offline_keys_s is not None:
        return settings.client.offline_keys_s
    near = all(parse_address(listener).loopback for listener in settings.client_listeners())
    return math.inf if near else _OFFLINE_KEYS_S


def _queue_policy(queue: QueueSettings) -> QueuePolicy:
    usual = QueuePolicy()
    lanes = ((usual.interactive, queue.interactive), (usual.default, queue.default), (usual.bulk, queue.bulk))
    interactive, default, bulk = (
        replace(lane, length=length, size_bytes=queue.max_bytes, max_wait_s=queue.max_wait_s)
        for lane, length in lanes
    )
    return QueuePolicy(interactive, default, bulk, preempt=queue.preempt)


def _breaker_policy(breaker: BreakerSettings) -> BreakerPolicy:
    return BreakerPolicy(
        max_failures=breaker.max_failures,
        max_local_failures=breaker.max_failures,
        min_success_rate=breaker.min_success_rate,
        min_requests=breaker.min_requests,
        window_s=breaker.window_s,
        base_backoff_s=breaker.ejection_s,
        max_backoff_s=breaker.max_ejection_s,
        probe_limit_s=breaker.probe_limit_s,
    )


def _hedge_policy(hedge: HedgeSettings) -> HedgePolicy:
    return HedgePolicy(
        enabled=hedge.enabled,
        factor=hedge.factor,
        floor_s=hedge.floor_s,
        unknown_s=hedge.unknown_s,
        max_share=hedge.max_ratio,
    )
