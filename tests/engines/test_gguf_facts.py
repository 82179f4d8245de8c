from __future__ import annotations

from pathlib import Path

import pytest

from swarmplane import models
from swarmplane.gguf import GgufError, kv_cache_bytes, model_name, parts, read_facts
from tests.fakes.gguf_bytes import LLAMA, Typed, header, tensor, write

MIB = 1024 * 1024


def test_a_model_that_ships_is_described() -> None:
    facts = read_facts(models.path("tiny-trained-q8"))

    assert (facts.name, facts.architecture, facts.quantization) == ("tiny-trained", "llama", "Q8_0")
    assert (facts.parameters, facts.weights_bytes) == (656_512, 700_928)  # as llama.cpp's /v1/models says
    assert (facts.context_length, facts.embedding_length, facts.feed_forward_length) == (2048, 128, 256)
    assert (facts.heads, facts.kv_heads) == ((4, 4, 4, 4), (2, 2, 2, 2))
    assert (facts.key_length, facts.value_length, facts.vocabulary) == (32, 32, 512)
    assert facts.has_chat_template
    assert not facts.embedding_only


def test_every_model_that_ships_has_a_name_and_a_file() -> None:
    assert models.names() == ("tiny-chain-q8", "tiny-trained-q8")
    assert all(model_name(models.path(name)) == name for name in models.names())


def test_a_cache_is_as_large_as_llama_cpp_says(tmp_path: Path) -> None:
    """A Llama-3-8B shape: 0.5 GiB at 4,096 tokens, 16 GiB at 131,072 (llama.cpp's own log)."""
    facts = read_facts(write(tmp_path / "m.gguf", header(LLAMA)))

    assert facts.quantization == "Q4_K_M"
    assert kv_cache_bytes(facts, 4096) == 512 * MIB
    assert kv_cache_bytes(facts, 131_072) == 16 * 1024 * MIB
    assert kv_cache_bytes(facts, 4096, 4) == 4 * kv_cache_bytes(facts, 4096)
    assert kv_cache_bytes(facts, 4000) == kv_cache_bytes(facts, 4096)
    assert kv_cache_bytes(facts, 4096, element_bytes=34 / 32) == 272 * MIB


def test_heads_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    per_layer: dict[str, Typed] = {
        **LLAMA,
        "llama.block_count": ("u32", 3),
        "llama.attention.head_count": ("array", ("u32", [32, 32, 0])),
        "llama.attention.head_count_kv": ("array", ("i32", [8, 4, 0])),
    }
    facts = read_facts(write(tmp_path / "m.gguf", header(per_layer)))

    assert (facts.heads, facts.kv_heads) == ((32, 32, 0), (8, 4, 0))
    assert kv_cache_bytes(facts, 256) == 256 * 12 * (128 + 128) * 2


def test_keys_and_values_may_have_lengths_of_their_own(tmp_path: Path) -> None:
    metadata: dict[str, Typed] = {
        **LLAMA,
        "llama.attention.key_length": ("u32", 256),
        "llama.attention.value_length": ("u32", 64),
    }
    facts = read_facts(write(tmp_path / "m.gguf", header(metadata)))

    assert (facts.key_length, facts.value_length) == (256, 64)


def test_without_a_count_of_their_own_keys_have_all_heads(tmp_path: Path) -> None:
    metadata = {key: typed for key, typed in LLAMA.items() if not key.endswith("head_count_kv")}

    assert read_facts(write(tmp_path / "m.gguf", header(metadata))).kv_heads == (32,) * 32


def test_a_model_without_attention_has_no_cache(tmp_path: Path) -> None:
    metadata: dict[str, Typed] = {
        "general.architecture": ("string", "mamba"),
        "mamba.block_count": ("u32", 24),
        "mamba.embedding_length": ("u32", 768),
    }
    facts = read_facts(write(tmp_path / "m.gguf", header(metadata)))

    assert kv_cache_bytes(facts, 8192) == 0
    assert (facts.context_length, facts.has_chat_template, facts.quantization) == (0, False, "")


@pytest.mark.parametrize(
    ("extra", "pooling", "only"),
    [
        pytest.param({}, "", False, id="text-model"),
        pytest.param({"llama.pooling_type": ("u32", 0)}, "none", False, id="no-pooling"),
        pytest.param({"llama.pooling_type": ("u32", 1)}, "mean", True, id="embeddings"),
        pytest.param({"llama.pooling_type": ("u32", 4)}, "rank", True, id="reranker"),
        pytest.param({"llama.pooling_type": ("u32", 99)}, "", False, id="unknown-pooling"),
        pytest.param({"llama.attention.causal": ("bool", False)}, "", True, id="not-causal"),
    ],
)
def test_an_embedding_model_is_recognised(
    tmp_path: Path, extra: dict[str, Typed], pooling: str, only: bool
) -> None:
    facts = read_facts(write(tmp_path / "m.gguf", header({**LLAMA, **extra})))

    assert (facts.pooling, facts.embedding_only) == (pooling, only)


def test_long_vocabularies_are_counted_but_not_kept(tmp_path: Path) -> None:
    metadata: dict[str, Typed] = {
        **LLAMA,
        "tokenizer.ggml.tokens": ("array", ("string", [f"t{n}" for n in range(20_000)])),
        "tokenizer.ggml.scores": ("array", ("f32", [0.0] * 20_000)),
    }

    assert read_facts(write(tmp_path / "m.gguf", header(metadata))).vocabulary == 20_000


def test_a_model_in_parts_is_one_model(tmp_path: Path) -> None:
    first, second = parts(tmp_path / "big-00002-of-00002.gguf")
    assert (first.name, second.name) == ("big-00001-of-00002.gguf", "big-00002-of-00002.gguf")
    assert model_name(second) == "big"
    write(first, header(LLAMA, [tensor("a", (32, 4))]), weights=512)
    with pytest.raises(GgufError, match=r"big-00002-of-00002\.gguf can't be read"):
        read_facts(first)

    write(second, header({"split.no": ("u32", 1)}, [tensor("b", (32, 2))]), weights=256)
    facts = read_facts(second)

    assert (facts.parts, facts.parameters, facts.weights_bytes) == (2, 192, 768)


def test_a_tensor_type_that_is_newer_than_this_is_sized_by_the_file(tmp_path: Path) -> None:
    content = header(LLAMA, [tensor("a", (32, 4), kind=77)])

    assert read_facts(write(tmp_path / "m.gguf", content, weights=96)).weights_bytes == 96
