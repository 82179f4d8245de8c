"""How busy backends say they are, in the words that their servers write."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.backends.figures import WITH_METRICS, Figures, read_metrics, with_slots
from tests.fakes.metrics_texts import LLAMA_SERVER, SGLANG, VLLM


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        pytest.param("vllm", VLLM, Figures(0.25, 3, 2), id="vllm"),
        pytest.param("sglang", SGLANG, Figures(0.74, 4, 3, 10.0), id="sglang"),
        pytest.param("llama-server", LLAMA_SERVER, Figures(None, 2, 1, 41.5), id="llama-server"),
        pytest.param("ollama", VLLM, Figures(), id="another-kind"),
        pytest.param("vllm", "", Figures(), id="nothing"),
        pytest.param(
            "vllm", "# HELP x\nvllm:gpu_cache_usage_perc{} 0.5\n", Figures(0.5), id="older-versions"
        ),
        pytest.param(
            "vllm", "vllm:kv_cache_usage_perc much\nvllm:num_requests_running NaN", Figures(), id="nonsense"
        ),
        pytest.param(
            "vllm", "vllm:kv_cache_usage_perc 57\nvllm:num_requests_running -1", Figures(), id="no-share"
        ),
        pytest.param(
            "vllm", 'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} 2',
            Figures(running=3), id="engines-add-up",
        ),
        pytest.param(
            "sglang", 'sglang:num_running_reqs{tp_rank="0"} 2\nsglang:num_running_reqs{tp_rank="1"} 2',
            Figures(running=2), id="parts-of-one-engine-do-not",
        ),
        pytest.param(
            "sglang", 'sglang:num_running_reqs{priority=""} 3\nsglang:num_running_reqs{priority="1"} 2',
            Figures(running=3), id="nor-parts-by-priority",
        ),
        pytest.param("sglang", "sglang:gen_throughput 30", Figures(), id="a-rate-of-nobody"),
        pytest.param("sglang", "sglang:num_running_reqs_total 9", Figures(), id="a-longer-name"),
    ],
)  # fmt: skip
def test_metrics(kind: str, text: str, wanted: Figures) -> None:
    assert read_metrics(kind, text) == wanted


@given(st.sampled_from(sorted(WITH_METRICS)), st.text())
def test_any_text_is_read(kind: str, text: str) -> None:
    found = read_metrics(kind, f"{text}\nvllm:num_requests_running {text}")
    assert found.kv_used is None or 0.0 <= found.kv_used <= 1.0
    assert found.running is None or found.running >= 0


SLOT = {"id": 0, "n_ctx": 2048, "is_processing": True, "n_prompt_tokens": 512}
IDLE = {"id": 1, "n_ctx": 2048, "is_processing": False}


@pytest.mark.parametrize(
    ("before", "slots", "wanted"),
    [
        pytest.param(Figures(), [SLOT, IDLE], Figures(0.125, 1), id="told-by-slots-alone"),
        pytest.param(Figures(0.5, 3, 1), [SLOT], Figures(0.5, 3, 1), id="metrics-know-better"),
        pytest.param(Figures(), [IDLE], Figures(0.0, 0), id="idle"),
        pytest.param(Figures(), [{"is_processing": True}], Figures(None, 1), id="an-older-one"),
        pytest.param(Figures(), [{"n_ctx": 8, "is_processing": True}], Figures(None, 1), id="no-prompt-told"),
        pytest.param(Figures(), [], Figures(None, 0), id="none"),
        pytest.param(Figures(), {"error": "no"}, Figures(), id="refused"),
        pytest.param(Figures(), [1], Figures(), id="nonsense"),
    ],
)
def test_slots(before: Figures, slots: Any, wanted: Figures) -> None:
    assert with_slots(before, json.dumps(slots).encode()) == wanted
    assert with_slots(before, b"no") == before
