"""What telemetry takes from the settings and from the standard ``OTEL_*`` variables, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from sidecar.telemetry.trace import Sampling
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.schema import OtlpSettings, Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_SIGNALS: Final = ("traces", "metrics")
_PROTOCOL: Final = "http/protobuf"
_SAMPLERS: Final[Mapping[str, Sampling]] = {
    "always_on": Sampling(follows_parent=False, ratio=1.0),
    "always_off": Sampling(follows_parent=False, ratio=0.0),
    "traceidratio": Sampling(follows_parent=False),
    "parentbased_always_on": Sampling(),
    "parentbased_always_off": Sampling(ratio=0.0),
    "parentbased_traceidratio": Sampling(),
}


@dataclass(frozen=True, slots=True)
class ExportPolicy:
    """Where spans go, and which."""

    sampling: Sampling
    endpoint: str = ""
    """Full URL for traces; empty: the SDK finds it in the environment."""
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    most_spans: int = 2048
    """Spans that wait for the collector at most."""
    batch_spans: int = 128
    """Spans sent together. Encoding one takes 5 to 10 µs, in which the event loop does not run."""
    delay_s: float = 1.0


@dataclass(frozen=True, slots=True)
class MetricsPolicy:
    """Where metrics go, and how often."""

    endpoint: str = ""
    """Full URL for metrics; empty: the SDK finds it in the environment."""
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    interval_s: float = 60.0


@dataclass(frozen=True, slots=True)
class AccessLogPolicy:
    """Where lines go."""

    target: str
    """A path, or ``-``."""
    max_bytes: int
    files: int
    most_lines: int = 16_384
    delay_s: float = 0.25


@dataclass(frozen=True, slots=True)
class TelemetryPolicy:
    """All of it."""

    records: int = 4096
    access: AccessLogPolicy | None = None
    export: ExportPolicy | None = None
    metrics: MetricsPolicy | None = None

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str]) -> TelemetryPolicy:
        """What ``settings`` and the process's ``environment`` ask for. Reads the headers' file.

        Raises:
            InvalidRequestError: The headers' file cannot be used.
        """
        access = None
        if settings.log.access:
            log_settings = settings.log
            access = AccessLogPolicy(
                log_settings.access, log_settings.access_max_bytes, log_settings.access_files
            )
        otlp = settings.telemetry.otlp
        return cls(
            settings.telemetry.records,
            access,
            export_policy(otlp, environment),
            metrics_policy(otlp, environment),
        )


def export_policy(otlp: OtlpSettings, environment: Mapping[str, str]) -> ExportPolicy | None:
    """How spans are exported; None: not at all. Settings come before variables.

    Raises:
        InvalidRequestError: The headers' file cannot be used.
    """
    if not _wanted(otlp, environment, "TRACES"):
        return None
    return ExportPolicy(
        sampling=_sampling(otlp, environment),
        endpoint=_url(otlp.endpoint, "traces"),
        headers=_headers(otlp.headers_file),
        timeout_s=otlp.timeout_s,
        most_spans=_number(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048),
        batch_spans=_number(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 128),
        delay_s=_number(environment, "OTEL_BSP_SCHEDULE_DELAY", 1000) / 1000,
    )


def metrics_policy(otlp: OtlpSettings, environment: Mapping[str, str]) -> MetricsPolicy | None:
    """How metrics are exported; None: not at all. Settings come before variables.

    Raises:
        InvalidRequestError: The headers' file cannot be used.
    """
    if not _wanted(otlp, environment, "METRICS"):
        return None
    return MetricsPolicy(
        endpoint=_url(otlp.endpoint, "metrics"),
        headers=_headers(otlp.headers_file),
        timeout_s=otlp.timeout_s,
        interval_s=_number(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000,
    )


def _wanted(otlp: OtlpSettings, environment: Mapping[str, str], signal: str) -> bool:
    named = [f"OTEL_EXPORTER_OTLP_{which}ENDPOINT" for which in ("", f"{signal}_")]
    if not otlp.endpoint and not any(environment.get(name, "").strip() for name in named):
        return False
    if environment.get("OTEL_SDK_DISABLED", "").strip().casefold() == "true":
        return False
    exporter = environment.get(f"OTEL_{signal}_EXPORTER", "").strip()
    if exporter and "otlp" not in [name.strip() for name in exporter.split(",")]:
        return False
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(name, "").strip()
        if protocol:
            if protocol != _PROTOCOL:
                log.warning("telemetry.protocol_unknown", protocol=protocol, use=_PROTOCOL)
            return protocol == _PROTOCOL
    return True


def _sampling(otlp: OtlpSettings, environment: Mapping[str, str]) -> Sampling:
    if otlp.sample_ratio is not None:
        return Sampling(ratio=otlp.sample_ratio)
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip()
    sampling = _SAMPLERS.get(name) if name else Sampling()
    if sampling is None:
        log.warning("telemetry.sampler_unknown", sampler=name, use="parentbased_always_on")
        return Sampling()
    if name.endswith("traceidratio"):
        return Sampling(sampling.follows_parent, _ratio(environment.get("OTEL_TRACES_SAMPLER_ARG", "")))
    return sampling


def _ratio(text: str) -> float:
    try:
        ratio = float(text or 1)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        log.warning("telemetry.ratio_unknown", ratio=text, use=1)
        return 1.0
    return ratio


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    text = environment.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else otherwise


def _url(endpoint: str, signal: str) -> str:
    """Where ``signal`` goes; the path of another one in ``endpoint`` is not its."""
    if not endpoint:
        return ""
    for other in _SIGNALS:
        endpoint = endpoint.removesuffix(f"/v1/{other}")
    return f"{endpoint.rstrip('/')}/v1/{signal}"


def _headers(file: Path | None) -> Mapping[str, str]:
    if file is None:
        return {}
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InvalidRequestError(f"telemetry.otlp.headers_file: {file}: {error.strerror}") from error
    if not all(":" in line for line in lines):
        raise InvalidRequestError(f"telemetry.otlp.headers_file: {file}: write name: value, one a line")
    pairs = (line.split(":", 1) for line in lines)
    return {name.strip(): value.strip() for name, value in pairs}
