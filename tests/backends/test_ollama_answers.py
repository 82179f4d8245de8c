"""What Ollama's answers say, and what of them is not believed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.backends.listing import ListingError, loaded_first
from sidecar.backends.ollama import (
    completed,
    read_residents,
    read_show,
    read_tags,
    shown_key,
)
from sidecar.core.residents import Resident
from sidecar.core.shown import Fact, Shown
from swarmplane.inventory import BackendModel, ModelState

TAG = {
    "name": "llama3.2:3b",
    "model": "llama3.2:3b",
    "modified_at": "2025-10-01T12:30:00.123456789+02:00",
    "size": 2_019_393_189,
    "digest": "a80c4f17acd5",
    "details": {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.2B",
        "quantization_level": "Q4_K_M",
    },
}


def listed(*entries: object) -> bytes:
    return json.dumps({"models": entries}).encode()


def test_a_listed_model_has_all_that_it_tells() -> None:
    (found,) = read_tags(listed(TAG))
    assert found == BackendModel(
        "llama3.2:3b",
        state=ModelState.COLD,
        size_bytes=2_019_393_189,
        digest="sha256:a80c4f17acd5",
        quantization="Q4_K_M",
        family="llama",
        format="gguf",
        parameter_size="3.2B",
        modified_s=1_759_314_600,
    )
    assert found.traits.parameter_size == "3.2B"
    assert shown_key(found) == "sha256:a80c4f17acd5"


@pytest.mark.parametrize(
    ("change", "field", "wanted"),
    [
        ({"digest": "md5:1"}, "digest", "md5:1"),
        ({"digest": "x" * 200}, "digest", ""),
        ({"digest": None}, "digest", ""),
        ({"size": -1}, "size_bytes", 0),
        ({"size": True}, "size_bytes", 0),
        ({"size": 1 << 60}, "size_bytes", 0),
        ({"modified_at": "yesterday"}, "modified_s", 0),
        ({"modified_at": "2025-10-01T10:30:00"}, "modified_s", 1_759_314_600),
        ({"modified_at": "0001-01-01T00:00:00Z"}, "modified_s", 0),
        ({"details": []}, "family", ""),
        ({"details": {"family": "x\n"}}, "family", ""),
        ({"name": "", "model": "other"}, "name", "other"),
    ],
)
def test_what_makes_no_sense_is_unknown(change: dict[str, Any], field: str, wanted: object) -> None:
    (found,) = read_tags(listed({**TAG, **change}))
    assert getattr(found, field) == wanted


def test_entries_without_a_name_and_second_ones_are_left_out() -> None:
    odd = [1, None, {}, {"name": "x" * 300}, {"name": "a\nb"}, {"name": 3}, TAG, {**TAG, "size": 1}]
    assert [model.size_bytes for model in read_tags(listed(*odd))] == [2_019_393_189]
    assert shown_key(read_tags(listed({"name": "bare"}))[0]) == "bare@0"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"models": {}}', b'{"models": null}'])
def test_another_answer_is_no_listing(body: bytes) -> None:
    for read in (read_tags, read_residents):
        with pytest.raises(ListingError):
            read(body)


def test_too_many_are_no_listing() -> None:
    with pytest.raises(ListingError, match="10,001 models"):
        read_tags(listed(*[{"name": str(number)} for number in range(10_001)]))


def test_what_is_loaded_and_until_when() -> None:
    never = {"name": "c", "context_length": 1, "expires_at": "2318-01-01T00:00:00Z"}
    found = read_residents(
        listed(
            {"name": "a", "context_length": 8192, "size_vram": 7, "expires_at": "2025-10-01T10:30:00Z"},
            {"name": "b", "context_length": "8192"},
            never,
            {"name": "d", "context_length": 1 << 40},
        )
    )
    assert found == {
        "a": Resident(8192, 1_759_314_600, 7),
        "b": Resident(),
        "c": Resident(1),
        "d": Resident(),
    }


def test_what_is_shown() -> None:
    """Kills: vocabularies kept, nulls passed on."""
    facts: dict[str, Fact] = {
        "general.architecture": "qwen2",
        "qwen2.context_length": 32768,
        "qwen2.rope.freq_base": 1e6,
    }
    body = {
        "capabilities": ["completion", "tools", 3, "tools", "x" * 100],
        "model_info": {
            **facts,
            "tokenizer.ggml.tokens": None,
            "tokenizer.ggml.merges": ["a b"],
            "x" * 300: 1,
        },
        "template": "{{ .Prompt }}",
        "parameters": "stop x",
        "system": "Be kind.",
        "license": "MIT",
    }
    assert read_show(json.dumps(body).encode()) == Shown(
        ("chat", "completion", "tools"), 32768, "{{ .Prompt }}", "stop x", "Be kind.", "MIT", facts
    )
    embedding = {"capabilities": ["embedding"], "model_info": None, "template": 1}
    assert read_show(json.dumps(embedding).encode()) == Shown(("embedding",))
    assert read_show(b"{}") == Shown()
    with pytest.raises(ListingError):
        read_show(b"no")


def test_facts_come_together() -> None:
    models = read_tags(listed(TAG, {"name": "other"}), {"other"})
    assert loaded_first(models, 1) == models[1:]
    assert loaded_first(models, 3) == (models[1], models[0])
    shown = {"sha256:a80c4f17acd5": Shown(("chat", "completion"), 4096)}
    first, second = completed(models, shown)
    assert (first.state, first.capabilities, first.context_length, first.trained_context) == (
        ModelState.COLD,
        ("chat", "completion"),
        4096,
        4096,
    )
    assert (second.state, second.capabilities, second.context_length) == (ModelState.LOADED, (), 0)
