"""What patterns stand for.

Mutants that were tried and are killed: stars that match one character only, overlapping beginnings and ends,
pieces out of order, case ignored.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmplane.aliases import Aliases, by_scan, is_pattern, matches, order, without_tag

texts = st.text("ab-", max_size=6)
patterns = st.lists(st.text("ab-", max_size=2), min_size=1, max_size=4).map("*".join)


@given(patterns, texts)
def test_a_pattern_matches_what_its_regular_expression_does(pattern: str, name: str) -> None:
    wanted = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    assert matches(pattern, name) is (wanted.fullmatch(name) is not None)


@given(st.dictionaries(patterns, st.integers(), max_size=6), st.lists(texts, min_size=1, max_size=4))
def test_the_index_answers_as_a_scan_does(aliases: dict[str, int], names: list[str]) -> None:
    index = Aliases(aliases.items())
    for name in [*names, *names]:
        assert index.find(name) == by_scan(aliases, name)


def test_of_two_patterns_the_one_with_more_letters_comes_first() -> None:
    assert sorted(["*", "a*", "ab*", "a*b*", "b*"], key=order) == ["a*b*", "ab*", "a*", "b*", "*"]


def test_what_is_a_pattern() -> None:
    assert is_pattern("claude-*")
    assert not is_pattern("claude-3")
    assert not matches("claude-*", "Claude-3")
    assert not matches("*ab*ba*", "aba")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("qwen3:8b", "qwen3"), ("qwen3", ""), ("a/b:c", "a/b"), ("host:80/m", ""), ("m:", ""), (":8b", "")],
)
def test_the_part_before_a_tag(name: str, stem: str) -> None:
    assert without_tag(name) == stem
