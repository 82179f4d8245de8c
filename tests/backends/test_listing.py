"""What backends' answers mean, and which URLs name a backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.backends.listing import ListingError, read_models, read_props
from sidecar.backends.target import BackendSpec, Target
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import BackendName
from swarmplane.inventory import ModelState
from swarmplane.settings.backend import BackendSettings

LLAMA_SERVER = {
    "object": "list",
    "data": [
        {
            "id": "tiny",
            "owned_by": "llamacpp",
            "meta": {"n_ctx": 2048, "n_ctx_train": 8192, "size": 700_928, "ftype": "Q8_0"},
        }
    ],
}


def _listed(entries: Any) -> bytes:
    return json.dumps({"data": entries}).encode()


def test_a_llama_server_tells_context_size_and_quantisation() -> None:
    kind, models = read_models(json.dumps(LLAMA_SERVER).encode())

    assert kind == "llama-server"
    assert (models[0].context_length, models[0].size_bytes, models[0].quantization) == (2048, 700_928, "Q8_0")


def test_vllm_tells_its_context() -> None:
    kind, models = read_models(_listed([{"id": "org/model", "owned_by": "vllm", "max_model_len": 32_768}]))

    assert (kind, models[0].model, models[0].context_length) == ("vllm", "org/model", 32_768)


@pytest.mark.parametrize(
    ("listed", "canonical"),
    [
        ("/models/mine/Qwen2.5-7B-Q4_K_M.gguf", "Qwen2.5-7B-Q4_K_M"),
        (r"C:\models\qwen.GGUF", "qwen"),
        ("qwen.gguf", "qwen"),
        ("llama3:8b", "llama3:8b"),
        ("org/model", "org/model"),
    ],
)
def test_a_file_is_asked_for_by_its_stem(listed: str, canonical: str) -> None:
    _, models = read_models(_listed([{"id": listed}]))

    assert (models[0].name, models[0].model) == (listed, canonical)


def test_a_router_tells_which_models_are_loaded() -> None:
    states = ["loaded", "unloaded", "loading", "failed", "other"]
    _, models = read_models(_listed([{"id": state, "status": {"value": state}} for state in states]))

    assert [model.state for model in models] == [
        ModelState.LOADED,
        ModelState.COLD,
        ModelState.LOADING,
        ModelState.FAILED,
        ModelState.LOADED,
    ]


def test_entries_that_make_no_sense_are_left_out() -> None:
    odd = [None, 7, {}, {"id": 7}, {"id": ""}, {"id": "x" * 257}, {"id": "a\nb"}, {"id": "good", "meta": 7}]
    _, models = read_models(
        _listed([*odd, {"id": "good"}, {"id": "big", "meta": {"size": -1, "n_ctx": 1e9}}])
    )

    assert [(model.name, model.size_bytes, model.context_length) for model in models] == [
        ("good", 0, 0),
        ("big", 0, 0),
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b"[" * 100_000, _listed([{"id": "m"}] * 10_001)],
    ids=["empty", "html", "list", "no-data", "data-is-no-list", "deep", "countless"],
)
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(ListingError):
        read_models(body)


KEYS = ("data", "id", "owned_by", "meta", "n_ctx", "status", "value", "default_generation_settings")
leaves = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(leaves, lambda x: st.lists(x) | st.dictionaries(st.sampled_from(KEYS), x)))
def test_any_json_is_read_or_refused(document: Any) -> None:
    body = json.dumps(document).encode()
    for read in (read_models, read_props):
        try:
            read(body)
        except ListingError:
            continue


@pytest.mark.parametrize(
    ("url", "target", "name"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "local-8080"),
        ("http://localhost:8080/v1", "http://localhost:8080", "local-8080"),
        ("localhost:11434", "http://localhost:11434", "local-11434"),
        ("http://[::1]:8080/", "http://[::1]:8080", "local-8080"),
        ("https://GPU-box.lan/api/v1/", "https://gpu-box.lan:443/api", "gpu-box-lan-443"),
        ("http://10.0.0.7:80/base", "http://10.0.0.7:80/base", "10-0-0-7-80"),
    ],
)
def test_a_url_names_a_backend(url: str, target: str, name: str) -> None:
    spec = BackendSpec.from_url(url)
    made = Target(spec.name, "openai", spec.host, spec.port, spec.tls, spec.base_path)

    assert (made.url, spec.name) == (target, name)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "ftp://x:21",
        "http://x:99999",
        "http://x:y",
        "http://u:p@x:1",
        "http://x:1/?a=b",
        "http://x:1/a b",
    ],
)
def test_what_is_no_url_of_a_backend_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        BackendSpec.from_url(url)


def test_settings_name_a_backend() -> None:
    settings = BackendSettings(url="http://h:1", name="gpu", key_file=Path("k"), slots=3)
    spec = BackendSpec.from_settings(settings)

    assert (spec.name, spec.key_file, spec.slots) == ("gpu", Path("k"), 3)
    with pytest.raises(InvalidRequestError, match="can't name a backend"):
        BackendSpec.from_url("http://h:1", name="a/b")


def test_credentials_are_never_shown() -> None:
    target = Target(BackendName("b"), "openai", "h", 1, headers=((b"authorization", b"Bearer secret"),))

    assert "secret" not in repr(target)
