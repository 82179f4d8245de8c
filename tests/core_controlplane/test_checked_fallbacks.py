"""Which fallbacks may be set. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

import pytest

from controlplane.core.fallbacks import MOST_PULLED, check_fallbacks
from swarmplane.aliases import MOST_WILD
from swarmplane.errors import InvalidRequestError
from swarmplane.fallbacks import (
    CATEGORIES,
    MOST_MODELS,
    MOST_RULES,
    NO_FALLBACKS,
    FallbackPolicy,
    FallbackRule,
)

B = ("b",)
STARS = "*a" * (MOST_WILD + 1)
RULE = FallbackRule(B)


@pytest.mark.parametrize(
    ("model", "chain", "fallbacks"),
    [
        ("", (), NO_FALLBACKS),
        ("a", ("b",) * MOST_MODELS, NO_FALLBACKS),
        ("", (), FallbackPolicy(rules=(RULE,) * MOST_RULES)),
        ("", (), FallbackPolicy(rules=(FallbackRule(B, category=CATEGORIES[0]),))),
        (
            "",
            (),
            FallbackPolicy(rules=(FallbackRule(B, match="a*", from_bytes=1, below_bytes=2),)),
        ),
        ("", (), FallbackPolicy(rules=(FallbackRule(B, from_bytes=9),))),
        ("", (), FallbackPolicy(auto_pull=("*a" * MOST_WILD,) * MOST_PULLED)),
    ],
)
def test_what_makes_sense_may_be_set(model: str, chain: tuple[str, ...], fallbacks: FallbackPolicy) -> None:
    """Kills: `>=` at each of the limits, sizes compared where no upper one is given."""
    check_fallbacks(model, chain, fallbacks)


@pytest.mark.parametrize(
    ("model", "chain", "fallbacks", "words"),
    [
        ("a", (), FallbackPolicy(auto_pull=("b",)), "for the swarm only"),
        ("", ("b",), NO_FALLBACKS, "set for a model"),
        ("a", ("b",) * (MOST_MODELS + 1), NO_FALLBACKS, f"at most {MOST_MODELS} models"),
        ("a", ("b\n",), NO_FALLBACKS, "no name of a model"),
        ("", (), FallbackPolicy(rules=(RULE,) * (MOST_RULES + 1)), f"at most {MOST_RULES} rules"),
        ("", (), FallbackPolicy(rules=(FallbackRule(()),)), "names no models"),
        ("", (), FallbackPolicy(rules=(FallbackRule(("b\n",)),)), "no name of a model"),
        ("", (), FallbackPolicy(rules=(FallbackRule(B, category="x"),)), "'x' is no category"),
        ("", (), FallbackPolicy(rules=(FallbackRule(B, from_bytes=2, below_bytes=2),)), "fit no model"),
        ("", (), FallbackPolicy(rules=(FallbackRule(B, match=STARS),)), f"at most {MOST_WILD} stars"),
        ("", (), FallbackPolicy(auto_pull=("a",) * (MOST_PULLED + 1)), f"at most {MOST_PULLED} names"),
        ("", (), FallbackPolicy(auto_pull=(STARS,)), f"at most {MOST_WILD} stars"),
    ],
)  # fmt: skip
def test_what_makes_none_is_refused_with_the_reason(
    model: str, chain: tuple[str, ...], fallbacks: FallbackPolicy, words: str
) -> None:
    """Kills: each of the checks left out."""
    with pytest.raises(InvalidRequestError, match=words):
        check_fallbacks(model, chain, fallbacks)
