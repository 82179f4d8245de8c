"""Contexts. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.context import (
    AS_IT_IS,
    Protection,
    Room,
    Sending,
    bigger,
    holds,
    lowered,
    protection_of,
    sending,
    too_long,
)
from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint

STRIP, WARN, PASS = Protection.STRIP, Protection.WARN, Protection.PASSTHROUGH
tokens = st.integers(0, 200_000)
some = st.integers(1, 200_000)


def endpoint(context: int = 0, kind: str = "ollama", name: str = "e") -> Endpoint:
    return Endpoint(EndpointId(name), NodeId("n"), BackendName("b"), "m", context_length=context, kind=kind)


@pytest.mark.parametrize(
    ("asked", "resident", "protection", "wanted"),
    [
        pytest.param(0, 8192, STRIP, Sending(8192), id="none-gets-what-is-loaded"),
        pytest.param(4096, 8192, STRIP, Sending(8192), id="less-gets-what-is-loaded"),
        pytest.param(8192, 8192, STRIP, AS_IT_IS, id="the-same-stays"),
        pytest.param(8193, 8192, STRIP, Sending(reloads=True), id="one-more-is-more"),
        pytest.param(65_536, 8192, STRIP, Sending(reloads=True), id="more-goes-through-and-reloads"),
        pytest.param(4096, 0, STRIP, AS_IT_IS, id="unknown-is-left-alone"),
        pytest.param(0, 8192, WARN, AS_IT_IS, id="none-may-be-the-default"),
        pytest.param(4096, 8192, WARN, Sending(reloads=True), id="another-number-reloads"),
        pytest.param(8192, 8192, WARN, AS_IT_IS, id="the-same-does-not"),
        pytest.param(4096, 8192, PASS, AS_IT_IS, id="passthrough"),
    ],
)
def test_what_is_sent(asked: int, resident: int, protection: Protection, wanted: Sending) -> None:
    """Kills: < for <=, strip where unknown, a warning for none, passthrough that warns."""
    assert sending(asked, resident, protection) == wanted


@given(st.lists(tokens, max_size=20), some)
def test_what_fits_never_reloads(requests: list[int], resident: int) -> None:
    """Kills: what was asked for sent instead of what is loaded, equal taken for less."""
    for asked in requests:
        how = sending(asked, resident, STRIP)
        sent = how.context or asked
        if asked <= resident:
            assert (sent, how.reloads) == (resident, False)
        else:
            assert (sent, how.reloads) == (asked, True)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((), STRIP),
        (("", ""), STRIP),
        (("", "warn"), WARN),
        (("passthrough", "warn"), PASS),
        (("melt", "warn"), WARN),
        (("strip", "warn"), STRIP),
    ],
)
def test_the_most_special_word_counts(words: tuple[str, ...], wanted: Protection) -> None:
    """Kills: the last word wins, an unknown word ends the search."""
    assert protection_of(*words) is wanted


@pytest.mark.parametrize(
    ("found", "resident", "asked", "protection", "wanted"),
    [
        pytest.param(endpoint(4096, "vllm"), 8192, 99, STRIP, 4096, id="others-hold-what-they-tell"),
        pytest.param(endpoint(0, "vllm"), 0, 99, STRIP, 0, id="or-it-is-unknown"),
        pytest.param(endpoint(131_072), 8192, 0, STRIP, 8192, id="what-is-loaded"),
        pytest.param(endpoint(131_072), 8192, 8192, STRIP, 8192, id="also-when-named"),
        pytest.param(endpoint(131_072), 8192, 16_384, STRIP, 16_384, id="more-is-loaded-for-it"),
        pytest.param(endpoint(8192), 4096, 16_384, STRIP, 8192, id="but-no-more-than-it-can"),
        pytest.param(endpoint(0), 4096, 16_384, STRIP, 16_384, id="as-far-as-is-known"),
        pytest.param(endpoint(131_072), 0, 0, STRIP, 131_072, id="not-loaded"),
        pytest.param(endpoint(131_072), 8192, 4096, WARN, 4096, id="it-gets-what-it-names"),
        pytest.param(endpoint(131_072), 8192, 0, WARN, 131_072, id="the-default-is-unknown"),
    ],
)
def test_what_a_place_holds(
    found: Endpoint, resident: int, asked: int, protection: Protection, wanted: int
) -> None:
    """Kills: the trained context where less is loaded, max for min, a protection that is not looked at."""
    assert holds(found, resident, asked, protection) == wanted


def test_who_holds_more_already() -> None:
    """Kills: the trained context taken for the loaded one, < for <=, kinds swapped."""
    small, big, cold = endpoint(131_072, name="s"), endpoint(131_072, name="b"), endpoint(131_072, name="c")
    other, unknown = endpoint(16_384, "vllm", "o"), endpoint(0, "vllm", "u")
    places = [(small, 8192), (big, 16_384), (cold, 0), (other, 0), (unknown, 99_999)]
    assert bigger(places, 16_384) == [big, other]
    assert bigger(places, 16_385) == []


@given(tokens, tokens, st.lists(tokens, max_size=4))
def test_only_what_nobody_holds_is_too_long(prompt: int, answer: int, contexts: list[int]) -> None:
    """Kills: any for all, min for max, an unknown context that refuses, the whole answer counted."""
    room = Room(prompt, answer)
    assert room.needed == prompt + (min(answer, 256) if answer else 256)
    fits = [context for context in contexts if not context or context >= room.needed]
    assert too_long(room, contexts) == (0 if fits else max(contexts, default=0))


@given(tokens, tokens, tokens)
def test_a_lowered_answer_fits(prompt: int, answer: int, context: int) -> None:
    """Kills: no margin, a limit raised, one lowered that fits, 0 where some must be left."""
    most = lowered(Room(prompt, answer), context)
    if not context or prompt + answer <= context:
        assert most == 0
        return
    assert 0 <= most < answer or most == 0
    if prompt + 256 <= context and answer > 256:
        assert most >= 256
        assert prompt + most <= context
        assert most == 256 or prompt + prompt // 4 + most <= context


def test_figures_of_lowering() -> None:
    """Kills: margins of other sizes, the cap of what remains dropped."""
    assert lowered(Room(1000, 64_000), 8192) == 8192 - 1250
    assert lowered(Room(7900, 64_000), 8192) == 256
    assert lowered(Room(8100, 64_000), 8192) == 92
    assert lowered(Room(9000, 64_000), 8192) == 1
    assert lowered(Room(9000, 1), 8192) == 0
    assert lowered(Room(1000, 0), 500) == 0
    assert lowered(Room(1000, 7192), 8192) == 0
    assert too_long(Room(9000), (0, 8192)) == 0
    assert too_long(Room(9000), (4096, 8192)) == 8192
