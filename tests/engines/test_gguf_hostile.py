"""Files nobody vouches for: each is refused with a sentence, soon, and without taking memory for its lies."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmplane import models
from swarmplane.gguf import Facts, GgufError, read_facts
from tests.fakes.gguf_bytes import LLAMA, header, tensor, text, write

TINY = models.path("tiny-trained-q8").read_bytes()
HEADER_BYTES = 14_080
HUGE = (1 << 64) - 1


def _with_key(key: str, raw: bytes) -> bytes:
    return header(LLAMA, keys=len(LLAMA) + 1) + text(key) + raw


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "cut short", id="empty"),
        pytest.param(b"GG", "cut short", id="half-a-magic"),
        pytest.param(b"PK\x03\x04" + b"\0" * 64, "not a GGUF file", id="another-format"),
        pytest.param(header(LLAMA, version=1), "version 1", id="version-1"),
        pytest.param(header(LLAMA, version=4), "version 4", id="version-4"),
        pytest.param(header(LLAMA, version=3 << 24), "big-endian", id="big-endian"),
        pytest.param(header(LLAMA, keys=HUGE), "metadata keys", id="countless-keys"),
        pytest.param(
            header(LLAMA, keys=60_000), "no room for 60,000 metadata keys", id="more-keys-than-bytes"
        ),
        pytest.param(header(LLAMA, tensor_count=HUGE), "tensors", id="countless-tensors"),
        pytest.param(header(LLAMA, tensor_count=9), "cut short", id="more-tensors-than-bytes"),
        pytest.param(header({}), "names no architecture", id="no-architecture"),
        pytest.param(
            header({"general.architecture": ("u32", 7)}),
            "names no architecture",
            id="architecture-is-a-number",
        ),
        pytest.param(_with_key("x", struct.pack("<IQ", 8, HUGE)), "string of", id="endless-string"),
        pytest.param(_with_key("x", struct.pack("<IQ", 8, 1 << 20)), "cut short", id="string-past-the-end"),
        pytest.param(_with_key("x", struct.pack("<IIQ", 9, 8, HUGE)), "array of", id="endless-array"),
        pytest.param(
            _with_key("x", struct.pack("<IIQ", 9, 4, 1 << 22)), "cut short", id="array-past-the-end"
        ),
        pytest.param(
            _with_key("x", struct.pack("<IIQ", 9, 8, 1 << 20)), "no room for", id="strings-past-the-end"
        ),
        pytest.param(
            _with_key("x", struct.pack("<IIQ", 9, 9, 1)), "metadata of type 9", id="array-of-arrays"
        ),
        pytest.param(_with_key("x", struct.pack("<I", 99)), "metadata of type 99", id="unknown-type"),
        pytest.param(
            _with_key("general.name", struct.pack("<II", 4, 1)), "stands there twice", id="key-twice"
        ),
        pytest.param(
            header({**LLAMA, "general.alignment": ("u32", 0)}), "alignment", id="alignment-of-nothing"
        ),
        pytest.param(
            header({**LLAMA, "llama.block_count": ("u32", 1 << 31)}), "layers", id="countless-layers"
        ),
        pytest.param(
            header({**LLAMA, "llama.context_length": ("i32", -1)}), "context_length", id="negative-context"
        ),
        pytest.param(
            header({**LLAMA, "llama.embedding_length": ("string", "x")}),
            "embedding_length",
            id="text-as-number",
        ),
        pytest.param(header(LLAMA, [tensor("t", (1,) * 9)]), "9 dimensions", id="nine-dimensions"),
        pytest.param(header(LLAMA, [tensor("t", (HUGE,) * 4)]), "elements", id="tensor-beyond-all-measure"),
        pytest.param(header(LLAMA, [tensor("t", (64,))]), "cut short: ", id="no-weights"),
        pytest.param(
            header(LLAMA, [tensor("t", (8,), offset=HUGE)]), "cut short: ", id="offset-past-the-end"
        ),
    ],
)
def test_a_hostile_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)

    tracemalloc.start()
    try:
        with pytest.raises(GgufError, match=message) as refused:
            read_facts(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "bad.gguf" in refused.value.message
    assert peak < 8 * 1024 * 1024


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=r"gone\.gguf can't be read"):
        read_facts(tmp_path / "gone.gguf")
    with pytest.raises(GgufError, match="can't be read"):
        read_facts(tmp_path)


def _outcome(path: Path) -> Facts | None:
    """Facts or a refusal; anything else fails the test."""
    try:
        return read_facts(path)
    except GgufError:
        return None


@given(st.integers(0, len(TINY) - 1))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.gguf"
    path.write_bytes(TINY[:length])

    assert _outcome(path) is None


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, HEADER_BYTES), st.binary(min_size=1, max_size=9)), max_size=4))
def test_a_file_changed_anywhere_is_described_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    content = bytearray(TINY)
    for at, put in changes:
        content[at : at + len(put)] = put
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(content)

    facts = _outcome(path)

    assert facts is None or facts.weights_bytes <= len(content)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400))
def test_noise_after_a_good_start_is_described_or_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "noise.gguf", b"GGUF" + struct.pack("<I", 3) + noise)

    _outcome(path)
