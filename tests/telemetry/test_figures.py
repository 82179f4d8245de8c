from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.telemetry import figures as figures_module
from sidecar.telemetry.figures import Figures
from sidecar.telemetry.record import Record
from sidecar.telemetry.usage import NOTHING, Usage, read
from swarmplane.exposition import render
from tests.fakes.records import fill, rejected

USED = Usage(12, 11)
GOLDEN = Path(__file__).with_name("requests.prom")


def counted() -> Figures:
    figures = Figures()
    figures.add(fill(Record()), USED)
    figures.add(fill(Record(), first_byte_s=0.0, streamed=False), USED)
    figures.add(fill(Record(), outcome="cancelled", status=0, attempts=3, retries=1, moves=1), NOTHING)
    figures.add(fill(Record(), attempts=2, hedges=1), USED)
    figures.add(
        fill(Record(), path=b"/v1/messages", node="bee", ended_s=100.5, streamed=False, replays=1), NOTHING
    )
    figures.add(fill(Record(), **rejected("model_not_found", 404, model="", attempts=0)), NOTHING)
    figures.add(fill(Record(), origin="bee"), USED)
    return figures


def text(figures: Figures) -> str:
    return render(figures.families({"record": 0, "access_log": 2, "span": 5}))


def test_metrics_of_requests_are_exactly_these() -> None:
    assert text(counted()) == GOLDEN.read_text(encoding="utf-8")


def test_a_process_that_served_nothing_shows_every_family() -> None:
    names = [line.split()[2] for line in text(Figures()).splitlines() if line.startswith("# TYPE")]
    assert names == [
        "swarmplane_requests_total",
        "swarmplane_request_duration_seconds",
        "swarmplane_time_to_first_token_seconds",
        "swarmplane_time_per_output_token_seconds",
        "swarmplane_attempts_total",
        "swarmplane_tokens_total",
        "swarmplane_rejected_total",
        "swarmplane_cancelled_total",
        "swarmplane_hop_requests_total",
        "swarmplane_telemetry_dropped_total",
    ]


def test_buckets_are_cumulative_and_end_in_the_count() -> None:
    figures = Figures()
    for ended_s in (0.001, 0.01, 0.0100001, 5000.0):
        figures.add(fill(Record(), started_s=0.0, ended_s=ended_s, streamed=False), NOTHING)
    lines = [line for line in text(figures).splitlines() if line.startswith("swarmplane_request_duration")]
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines if "_bucket" in line]
    assert counts == sorted(counts)
    assert counts[0] == 2
    assert counts[-2:] == [3, 4]
    assert lines[-1].endswith('_count{dialect="openai",model="tiny"} 4')


def test_more_models_than_the_cap_are_counted_as_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "MOST_MODELS", 3)
    figures = Figures()
    for number in range(10):
        figures.add(fill(Record(), model=f"m{number}"), USED)
    figures.add(fill(Record(), model="m0"), USED)
    shown = text(figures)
    assert 'requests_total{dialect="openai",model="m0",node="desk",outcome="completed"} 2' in shown
    assert 'requests_total{dialect="openai",model="other",node="desk",outcome="completed"} 7' in shown
    assert 'tokens_total{direction="output",model="other"} 77' in shown
    assert '"m3"' not in shown


def test_rows_are_capped_however_labels_combine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "MOST_ROWS", 5)
    figures = Figures()
    for model in range(10):
        for node in range(10):
            figures.add(fill(Record(), model=f"m{model}", node=f"n{node}"), NOTHING)
            figures.add(fill(Record(), model=f"m{model}", origin=f"n{node}"), NOTHING)
    lines = text(figures).splitlines()
    requests = [line for line in lines if line.startswith("swarmplane_requests_total{")]
    hops = [line for line in lines if line.startswith("swarmplane_hop_requests_total{")]
    assert (len(requests), len(hops)) == (6, 6)
    assert sum(int(line.rsplit(" ", 1)[1]) for line in requests) == 100
    assert sum(int(line.rsplit(" ", 1)[1]) for line in hops) == 100


def test_paths_that_clients_make_up_do_not_grow_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_module, "MOST_ROWS", 5)
    figures = Figures()
    for number in range(50):
        changes = rejected("not_found", 404, model="", attempts=0, path=b"/v1/%d" % number)
        figures.add(fill(Record(), **changes), NOTHING)
    assert len(figures._seen) <= 5
    assert 'swarmplane_rejected_total{code="not_found"} 50' in text(figures)


def test_the_tail_of_the_fake_states_its_usage() -> None:
    assert read(fill(Record()).tail) == USED


def test_a_path_that_nobody_serves_is_counted_and_not_kept() -> None:
    """Kills: five thousand paths of 60 KB each held for as long as nobody asks for others."""
    figures = Figures()
    for path in (b"/v1/" + b"x" * 252, b"/v1/" + b"x" * 253):
        figures.add(fill(Record(), path=path, **rejected("not_found", 404, model="", attempts=0)), NOTHING)
    assert 'dialect="openai",model="",node="",outcome="rejected"} 2' in text(figures)
    assert [len(path) for path, *_ in figures._seen] == [256]
