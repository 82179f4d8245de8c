"""Catalogue and mutations by the unmodified ``ollama`` package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.clients.conftest import CHAT, NATIVE, World
from tests.e2e.hosts import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def said(text: str) -> Any:
    return {"role": "user", "content": text}


@pytest.fixture
def client(world: World) -> Iterator[ollama.Client]:
    one = ollama.Client(host=world.url, timeout=30)
    yield one
    one._client.close()


@pytest.fixture
def near(world: World) -> Iterator[ollama.Client]:
    """On B, where the backend is."""
    one = ollama.Client(host=world.owner.url, timeout=30)
    yield one
    one._client.close()


def test_models_are_listed_and_shown(client: ollama.Client) -> None:
    listed = {one.model: one for one in client.list().models}
    assert set(listed) >= {NATIVE, CHAT}
    native = listed[NATIVE]
    assert native.details is not None
    assert native.details.quantization_level == "Q4_K_M"
    assert (native.size or 0) > 1_000_000_000
    for one in listed.values():
        assert one.digest
        assert one.modified_at
        assert one.details
        assert one.details.family is not None
    shown = client.show(NATIVE)
    assert set(shown.capabilities or ()) >= {"completion", "tools"}
    assert shown.modelinfo
    assert shown.modelinfo["llama.context_length"] == 8192
    assert shown.modelinfo["llama.attention.head_count"] == 24
    assert (shown.template, shown.license) == ("{{ .System }} {{ .Prompt }}", "LICENSE"), "its owner's own"
    assert "<|eot_id|>" in (shown.parameters or "")


def test_loaded_models(client: ollama.Client) -> None:
    client.chat(model=NATIVE, messages=[said("good day")])
    running = eventually(
        "it is listed as loaded",
        lambda: [one for one in client.ps().models if one.model == NATIVE],
        within_s=20,
    )
    assert running[0].size_vram
    assert running[0].expires_at
    assert (running[0].context_length or 0) >= 4096


def test_mutations_by_this_machine(client: ollama.Client, near: ollama.Client, world: World) -> None:
    """They act on this host's own backends: A has none, so B is asked."""
    near.copy(NATIVE, "mine")
    try:
        assert "mine:latest" in world.ollama.report()["voice"]["models"]
    finally:
        near.delete("mine")
    assert "mine:latest" not in world.ollama.report()["voice"]["models"]
    with pytest.raises(ollama.ResponseError):
        client.delete(NATIVE)
    assert NATIVE in world.ollama.report()["voice"]["models"]


def test_a_model_is_pulled_with_progress(near: ollama.Client, world: World) -> None:
    steps = list(near.pull("tiny:1b", stream=True))
    assert steps[0].status == "pulling manifest"
    assert any(step.completed and step.completed == step.total for step in steps)
    assert steps[-1].status == "success"
    eventually("A lists it", lambda: "tiny:1b" in world.entry.models(), within_s=30)
    near.delete("tiny:1b")
