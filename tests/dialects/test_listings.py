"""Models as clients of each dialect see them, without a swarm around them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.shown import Shown
from sidecar.dialects.catalogue import (
    NEVER,
    Entry,
    anthropic_page,
    ollama_ps,
    ollama_show,
    ollama_tags,
    openai_models,
)
from swarmplane.traits import Traits

LLAMA = Traits(
    digest="sha256:" + "ab" * 32,
    family="llama",
    parameter_size="3.2B",
    quantization="Q4_K_M",
    size_bytes=2_000,
    capabilities=("chat", "completion", "tools", "insert"),
    trained_context=131_072,
)
ENTRY = Entry("llama:3b", ("b",), True, 8192, (), LLAMA, 1_759_314_600, 77, 1_759_315_000)
BARE = replace(ENTRY, name="plain", traits=Traits(), loaded=False, expires_at_s=0)


def named(*names: str) -> list[Entry]:
    return [replace(ENTRY, name=name) for name in names]


def pages(entries: list[Entry], limit: int, *, back: bool) -> list[list[str]]:
    """All pages, as Anthropic's SDKs go through them."""
    found: list[list[str]] = []
    after = before = ""
    if back:
        before = entries[-1].name
    while len(found) <= len(entries):
        page = anthropic_page(entries, limit=limit, after=after, before=before)
        ids = [one["id"] for one in page["data"]]
        assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
        found.append(ids)
        if not page["has_more"]:
            return found
        after, before = ("", ids[0]) if back else (ids[-1], "")
    pytest.fail("pages without end")


@given(count=st.integers(1, 9), limit=st.integers(1, 5), back=st.booleans())
def test_pages_hold_every_model_once(count: int, limit: int, back: bool) -> None:
    """Kills: a page that begins with the last one's end, one more page of nothing, back to the start."""
    entries = named(*(f"m{number}" for number in range(count)))
    found = pages(entries, limit, back=back)
    listed = [name for page in (reversed(found) if back else found) for name in page]
    assert listed == [entry.name for entry in entries][: count - back]
    assert all(len(page) == limit for page in found[:-1])
    assert found[-1] or count == back


def test_a_page_after_a_model_that_went_away_begins_at_the_start() -> None:
    page = anthropic_page(named("a", "b"), limit=5, after="gone")
    assert [one["id"] for one in page["data"]] == ["a", "b"]


def test_what_runs_is_what_is_loaded() -> None:
    (one,) = ollama_ps([ENTRY, BARE])["models"]
    assert (one["name"], one["size_vram"], one["context_length"]) == ("llama:3b", 77, 8192)
    assert one["expires_at"] == "2025-10-01T10:36:40Z"
    assert ollama_ps([replace(ENTRY, expires_at_s=0)])["models"][0]["expires_at"] == NEVER
    assert [one["name"] for one in ollama_tags([ENTRY, BARE])["models"]] == ["llama:3b", "plain"]


def test_a_digest_is_hexadecimal_digits_also_where_none_is_known() -> None:
    known, other, third = (one["digest"] for one in ollama_tags([ENTRY, BARE, *named("x")])["models"])
    assert known == third == "ab" * 32
    assert len(other) == 64
    assert set(other) <= set("0123456789abcdef")


def test_facts_stand_there_where_they_are_known() -> None:
    known, unknown = (one["swarm"] for one in openai_models([ENTRY, BARE])["data"])
    assert known["family"] == "llama"
    assert set(unknown) == {"nodes", "loaded", "context_length", "aliases"}


@pytest.mark.parametrize(
    ("told", "can"),
    [
        ((), ["completion"]),
        (("chat",), ["completion"]),
        (("completion", "tools"), ["completion", "tools"]),
        (("embedding",), ["embedding"]),
    ],
)
def test_capabilities_are_in_ollamas_words(told: tuple[str, ...], can: list[str]) -> None:
    assert ollama_show(replace(ENTRY, traits=Traits(capabilities=told)))["capabilities"] == can


def test_show_says_what_the_model_can_and_what_its_server_shows() -> None:
    plain: dict[str, Any] = ollama_show(ENTRY)
    assert plain["model_info"]["llama.context_length"] == 131_072, "not what it runs with"
    assert ".Suffix" in plain["template"], "by which clients learn that it fills in the middle"
    bare = ollama_show(BARE)
    assert ".Suffix" not in bare["template"]
    assert bare["model_info"]["unknown.context_length"] == 8192
    shown = Shown(
        template="T",
        system="S",
        parameters="stop  a\n\n num_ctx 5",
        license="L",
        facts={"llama.block_count": 28},
    )
    told = ollama_show(ENTRY, shown)
    assert told["model_info"]["llama.block_count"] == 28
    assert told["modelfile"].splitlines() == [
        "FROM llama:3b",
        'TEMPLATE """T"""',
        'SYSTEM """S"""',
        "PARAMETER stop  a",
        "PARAMETER num_ctx 5",
        'LICENSE """L"""',
    ]
