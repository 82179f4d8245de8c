"""Who may answer for whom. Mutants that were tried and are killed: named in the tests."""

from __future__ import annotations

import pytest

from sidecar.core.fallbacks import category_of, chain, nearest
from swarmplane.fallbacks import FallbackPolicy, FallbackRule


@pytest.mark.parametrize(
    ("name", "capabilities", "category"),
    [
        ("qwen3:8b", (), "chat"),
        ("Qwen3-Coder:30b", ("chat", "tools"), "code"),
        ("deepseek-r1:7b", (), "reasoning"),
        ("nomic-embed-text", (), "embedding"),
        ("m", ("embedding",), "embedding"),
        ("m", ("embedding", "chat"), "chat"),
        ("llava:7b", (), "vision"),
        ("llava:7b", ("chat",), "chat"),
        ("m", ("chat", "vision"), "vision"),
        ("embed-me", ("completion",), "chat"),
    ],
)
def test_categories(name: str, capabilities: tuple[str, ...], category: str) -> None:
    """Kills: names before what is told, case, an embedder that chats."""
    assert category_of(name, capabilities) == category


def test_a_chain_has_each_name_once_and_the_asked_one_never() -> None:
    """Kills: the client's wish behind policies, names twice, rules that do not fit, the asked name."""
    rules = (
        FallbackRule(("r", "w")),
        FallbackRule(("no",), match="x*"),
        FallbackRule(("s",), category="chat"),
    )
    found = chain("m", 0, "chat", wished=("w", "m"), own=("o", "w"), rules=rules)
    assert found == ("w", "o", "r", "s")


@pytest.mark.parametrize(
    ("rule", "asked", "size", "fits"),
    [
        (FallbackRule(("n",), match="gpt-*"), "gpt-4", 0, True),
        (FallbackRule(("n",), match="gpt-*"), "claude", 0, False),
        (FallbackRule(("n",), category="code"), "m", 0, False),
        (FallbackRule(("n",), from_bytes=5), "m", 5, True),
        (FallbackRule(("n",), from_bytes=5), "m", 4, False),
        (FallbackRule(("n",), below_bytes=5), "m", 4, True),
        (FallbackRule(("n",), below_bytes=5), "m", 5, False),
        (FallbackRule(("n",), below_bytes=5), "m", 0, False),
    ],
)
def test_what_a_rule_fits(rule: FallbackRule, asked: str, size: int, fits: bool) -> None:
    """Kills: each condition, bounds off by one, an unknown size taken for small."""
    assert rule.fits(asked, "chat", size) is fits


def test_the_nearest_size_is_by_ratio() -> None:
    """Kills: by difference, unknown sizes first, ties by chance."""
    assert nearest(10, [("a", 30), ("b", 4), ("c", 0)]) == "b"
    assert nearest(10, [("a", 20), ("b", 5)]) == "a"
    assert nearest(10, [("c", 0)]) == "c"
    assert nearest(0, [("b", 5), ("a", 9)]) == "a"
    assert nearest(10, []) is None


def test_what_may_be_pulled() -> None:
    assert FallbackPolicy(auto_pull=("qwen3:*",)).pulls("qwen3:8b")
    assert not FallbackPolicy(auto_pull=("qwen3:*",)).pulls("llama3:8b")
    assert not FallbackPolicy().pulls("qwen3:8b")
