"""How requests are served: attempts, queues, breakers and second copies. Tables of ``config.toml``."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from swarmplane.settings.section import Section


class UpstreamSettings(Section):
    """Requests to backends and to peers."""

    connect_timeout_s: PositiveFloat = 2.0
    """Longest wait for a connection."""
    first_byte_timeout_s: PositiveFloat = 600.0
    """Hard limit of the wait for the first byte of an answer that is running."""
    first_byte_floor_s: PositiveFloat = 10.0
    """Least wait for it before another endpoint is asked; usually four times the slowest of a hundred."""
    stall_timeout_s: PositiveFloat = 300.0
    """Longest silence within an answer; also of a client that does not read it."""
    stall_floor_s: PositiveFloat = 60.0
    """Least silence that ends a stream: a hundred usual gaps of its model on its node, if that is longer."""
    idle_backend_s: PositiveFloat = 4.0
    """Idle connections to backends live this long (cpp-httplib closes at 5 s)."""
    idle_peer_s: PositiveFloat = 60.0
    """Idle connections to peers live this long."""
    max_idle: PositiveInt = 256
    """Idle connections kept per backend or peer."""
    max_models: PositiveInt = 512
    """Models of one backend that are offered: each stands in every host's table. Loaded ones come first."""
    retry_budget_min: NonNegativeInt = 3
    """Failures that may always be retried at a time."""
    retry_budget_ratio: NonNegativeFloat = 0.2
    """Failures retried at a time: at least the minimum, at most this share of active requests."""


class QueueSettings(Section):
    """Requests that wait for a slot of this host; one queue per model."""

    interactive: NonNegativeInt = 256
    """Requests of the class ``interactive`` that may wait; 0: none."""
    default: NonNegativeInt = 512
    """Requests of the class ``default`` that may wait; 0: none."""
    bulk: NonNegativeInt = 1024
    """Requests of the class ``bulk`` that may wait; 0: none."""
    max_bytes: PositiveInt = 128 * 1024 * 1024
    """Bodies of one class that may wait, together."""
    max_wait_s: PositiveFloat = 600.0
    """Longest wait in queues; then the client is told to come again."""
    preempt: bool = True
    """Whether a higher class may take the slot of a request that has not sent a byte."""
    learn_slots: bool = True
    """Whether the slots of a backend that nobody knows them of are learned from how long it lets wait."""

    loading_wait_s: NonNegativeFloat = 300.0
    """Longest wait for a model that nobody has ready, while somebody loads it; 0: refused at once."""


class BreakerSettings(Section):
    """When an endpoint is left alone because it fails, and how it comes back."""

    max_failures: PositiveInt = 5
    """Failing statuses, or broken connections, in a row that eject it."""
    min_success_rate: float = Field(default=0.8, ge=0, le=1)
    """Less than this share of good answers, in the window, ejects it."""
    min_requests: PositiveInt = 5
    """Answers in the window below which the share says nothing."""
    window_s: PositiveInt = 10
    """Length of the window."""
    ejection_s: PositiveFloat = 1.0
    """Of the first ejection; each one in a row lasts twice as long as the one before."""
    max_ejection_s: PositiveFloat = 60.0
    """Longest ejection, before up to half more by chance."""
    probe_limit_s: PositiveFloat = 60.0
    """After so long without word of the request that probes it, another one may."""
    slow_start_s: NonNegativeFloat = 30.0
    """Time in which a new or returned endpoint takes up its share; 0: at once."""


class HedgeSettings(Section):
    """Second copies of requests whose first byte is late; off unless enabled.

    One is sent only to an endpoint with a free slot, before any byte of an answer came, within the retry
    budget. The first answer wins and the other request is cancelled.
    """

    enabled: bool = False
    """Whether they are sent at all. They cost work that is thrown away."""
    factor: PositiveFloat = 1.0
    """Of the time to the first token that 95 of 100 requests keep: from then on the first byte is late."""
    floor_s: PositiveFloat = 0.5
    """Never earlier than this."""
    unknown_s: PositiveFloat = 10.0
    """Where nothing was measured yet."""
    max_ratio: float = Field(default=0.05, ge=0, le=1)
    """Copies that run at a time, as a share of active requests; one always may."""
