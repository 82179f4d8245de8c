from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.telemetry.policy import AccessLogPolicy, TelemetryPolicy, export_policy, metrics_policy
from sidecar.telemetry.trace import Sampling
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.schema import LogSettings, OtlpSettings, Settings

HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        pytest.param({}, False, id="off-until-an-endpoint-is-set"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False, id="empty-is-unset"),
        pytest.param(HERE, True, id="endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h/x"}, True, id="endpoint-of-traces"),
        pytest.param({**HERE, "OTEL_SDK_DISABLED": "true"}, False, id="sdk-disabled"),
        pytest.param({**HERE, "OTEL_TRACES_EXPORTER": "none"}, False, id="no-exporter"),
        pytest.param({**HERE, "OTEL_TRACES_EXPORTER": "console, otlp"}, True, id="one-of-several"),
        pytest.param({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, id="grpc-is-not-spoken"),
        pytest.param(
            {
                **HERE,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            True,
            id="the-closer-variable-wins",
        ),
    ],
)
def test_export_is_on(environment: dict[str, str], on: bool) -> None:
    assert (export_policy(OtlpSettings(), environment) is not None) == on


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        pytest.param({}, False, id="off-until-an-endpoint-is-set"),
        pytest.param(HERE, True, id="endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h/x"}, True, id="endpoint-of-metrics"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h/x"}, False, id="endpoint-of-traces"),
        pytest.param({**HERE, "OTEL_SDK_DISABLED": "True"}, False, id="sdk-disabled"),
        pytest.param({**HERE, "OTEL_METRICS_EXPORTER": "none"}, False, id="no-exporter"),
        pytest.param({**HERE, "OTEL_TRACES_EXPORTER": "none"}, True, id="traces-are-another-thing"),
        pytest.param({**HERE, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, False, id="grpc"),
    ],
)
def test_metrics_are_exported(environment: dict[str, str], on: bool) -> None:
    assert (metrics_policy(OtlpSettings(), environment) is not None) == on


@pytest.mark.parametrize(
    ("interval", "seconds"), [("", 60.0), ("250", 0.25), ("0", 60.0), ("soon", 60.0), ("-5", 60.0)]
)
def test_metrics_go_out_as_often_as_the_variable_says(interval: str, seconds: float) -> None:
    policy = metrics_policy(OtlpSettings(), {**HERE, "OTEL_METRIC_EXPORT_INTERVAL": interval})
    assert policy is not None
    assert policy.interval_s == seconds


def test_one_endpoint_in_the_settings_serves_both_signals() -> None:
    for endpoint in (
        "http://h:4318",
        "http://h:4318/",
        "http://h:4318/v1/traces",
        "http://h:4318/v1/metrics",
    ):
        otlp = OtlpSettings(endpoint=endpoint)
        spans, metrics = export_policy(otlp, {}), metrics_policy(otlp, {})
        assert spans is not None
        assert metrics is not None
        assert (spans.endpoint, metrics.endpoint) == ("http://h:4318/v1/traces", "http://h:4318/v1/metrics")


@pytest.mark.parametrize(
    ("sampler", "argument", "sampling"),
    [
        ("", "", Sampling()),
        ("always_on", "", Sampling(follows_parent=False)),
        ("always_off", "", Sampling(follows_parent=False, ratio=0.0)),
        ("traceidratio", "0.25", Sampling(follows_parent=False, ratio=0.25)),
        ("parentbased_traceidratio", "0.01", Sampling(ratio=0.01)),
        ("parentbased_traceidratio", "", Sampling()),
        ("parentbased_traceidratio", "nan", Sampling()),
        ("parentbased_traceidratio", "7", Sampling()),
        ("parentbased_always_off", "0.5", Sampling(ratio=0.0)),
        ("jaeger_remote", "0.5", Sampling()),
    ],
)
def test_sampler(sampler: str, argument: str, sampling: Sampling) -> None:
    environment = {**HERE, "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    policy = export_policy(OtlpSettings(), environment)
    assert policy is not None
    assert policy.sampling == sampling
    settings = export_policy(OtlpSettings(sample_ratio=0.5), environment)
    assert settings is not None
    assert settings.sampling == Sampling(ratio=0.5)


def test_settings_name_the_collector_and_its_credential(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("authorization: Bearer a:b\n\nx-tenant:t\n")
    policy = export_policy(OtlpSettings(endpoint="https://otel.example/", headers_file=file, timeout_s=2), {})
    assert policy is not None
    assert policy.endpoint == "https://otel.example/v1/traces"
    assert policy.headers == {"authorization": "Bearer a:b", "x-tenant": "t"}
    assert policy.timeout_s == 2
    whole = export_policy(OtlpSettings(endpoint="https://otel.example/v1/traces"), {})
    assert whole is not None
    assert whole.endpoint == "https://otel.example/v1/traces"


def test_a_headers_file_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    missing, wrong = tmp_path / "missing", tmp_path / "wrong"
    wrong.write_text("SECRET")
    for file in (missing, wrong):
        with pytest.raises(InvalidRequestError, match="headers_file") as caught:
            export_policy(OtlpSettings(endpoint="http://h:1", headers_file=file), {})
        assert "SECRET" not in str(caught.value)


def test_batches_follow_the_standard_variables() -> None:
    variables = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "10",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5",
        "OTEL_BSP_SCHEDULE_DELAY": "250",
    }
    policy = export_policy(OtlpSettings(), {**HERE, **variables})
    assert policy is not None
    assert (policy.most_spans, policy.batch_spans, policy.delay_s) == (10, 5, 0.25)
    odd = export_policy(OtlpSettings(), {**HERE, "OTEL_BSP_MAX_QUEUE_SIZE": "-3"})
    assert odd is not None
    assert odd.most_spans == 2048


def test_the_access_log_is_off_until_it_is_named() -> None:
    assert TelemetryPolicy.of(Settings(), {}) == TelemetryPolicy(4096)
    named = Settings(log=LogSettings(access="-", access_max_bytes=10, access_files=2))
    assert TelemetryPolicy.of(named, {}).access == AccessLogPolicy("-", 10, 2)
