"""The checker of histories: what could have been one after another, and what could not."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.linearizable import Act, Operation, check, out_of_order


def op(act: Act, called: float, returned: float, **more: object) -> Operation:
    return Operation("c", "k", act, called, returned, **more)  # type: ignore[arg-type]


def get(called: float, returned: float, answer: str | None) -> Operation:
    return op(Act.GET, called, returned, answer=answer)


def put(called: float, returned: float, value: str, *, certain: bool = True) -> Operation:
    return op(Act.PUT, called, returned, value=value, certain=certain)


def swap(called: float, returned: float, expected: str | None, value: str, answer: bool | None) -> Operation:
    return op(
        Act.SWAP,
        called,
        returned,
        expected=expected,
        value=value,
        answer=answer,
        certain=answer is not None,
    )


def delete(called: float, returned: float, answer: bool | None) -> Operation:
    return op(Act.DELETE, called, returned, answer=answer, certain=answer is not None)


GOOD = {
    "one after another": [put(0, 1, "a"), get(2, 3, "a"), delete(4, 5, True), get(6, 7, None)],
    "a read beside a write sees either": [put(0, 4, "a"), get(1, 2, "a"), get(2, 3, "a")],
    "a read beside a write sees what was before": [put(0, 4, "a"), get(1, 2, None)],
    "an unknown write that was done": [put(0, 1, "a", certain=False), get(2, 3, "a")],
    "an unknown write that was not": [put(0, 1, "a", certain=False), get(2, 3, None)],
    "an unknown write that is done late": [
        put(0, 1, "a", certain=False),
        put(2, 3, "b"),
        get(4, 5, "b"),
        get(6, 7, "a"),
    ],
    "an unknown swap that found something else": [
        put(0, 1, "a"),
        swap(2, 3, "b", "c", None),
        get(4, 5, "a"),
    ],
    "an unknown delete that was done": [put(0, 1, "a"), delete(2, 3, None), get(4, 5, None)],
    "of two swaps one wins": [
        put(0, 1, "a"),
        swap(2, 4, "a", "b", True),
        swap(2, 4, "a", "c", False),
        get(5, 6, "b"),
    ],
    "a delete of nothing": [delete(0, 1, False)],
}
BAD = {
    "a lost write": [put(0, 1, "a"), get(2, 3, None)],
    "a stale read": [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")],
    "a value from nowhere": [put(0, 1, "a"), get(2, 3, "x")],
    "a read from the future": [get(0, 1, "a"), put(2, 3, "a")],
    "new, then old": [put(0, 10, "a"), get(1, 2, "a"), get(3, 4, None)],
    "two swaps of one value": [
        put(0, 1, "a"),
        swap(2, 4, "a", "b", True),
        swap(2, 4, "a", "c", True),
    ],
    "a swap refused without a reason": [put(0, 1, "a"), swap(2, 3, "a", "b", False), get(4, 5, "a")],
    "a refused swap that was done": [put(0, 1, "a"), swap(2, 3, "b", "c", False), get(4, 5, "c")],
    "a delete that found nothing beside a value": [put(0, 1, "a"), delete(2, 3, False)],
    "an unknown write done twice": [
        put(0, 1, "a", certain=False),
        get(2, 3, "a"),
        put(4, 5, "b"),
        get(6, 7, "a"),
    ],
    "an unknown write done before it was asked": [get(0, 1, "a"), put(2, 3, "a", certain=False)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_histories_that_are_possible(history: list[Operation]) -> None:
    (verdict,) = check(history)
    assert verdict.ok
    assert verdict.decided


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_histories_that_are_not(history: list[Operation]) -> None:
    (verdict,) = check(history)
    assert not verdict.ok
    assert verdict.stuck


def test_keys_are_judged_apart() -> None:
    fine = Operation("c", "fine", Act.PUT, 0, 1, value="a")
    verdicts = check([fine, *BAD["a lost write"]])
    assert {v.key: v.ok for v in verdicts} == {"fine": True, "k": False}


def test_what_stood_there_before_counts() -> None:
    assert check([get(0, 1, "a")], {"k": "a"})[0].ok
    assert not check([get(0, 1, "a")])[0].ok


def _real(seed: int, clients: int, length: int) -> list[Operation]:
    """Of a register that is right: each call takes effect at a moment drawn within it."""
    random = Random(seed)
    calls: list[tuple[float, float, float, str]] = []
    for client in range(clients):
        now = random.random()
        for _ in range(length):
            called = now + random.random() * 0.2
            moment = called + random.random()
            now = moment + random.random()
            calls.append((moment, called, now, f"c{client}"))
    state: str | None = None
    history = []
    for n, (_, called, returned, client) in enumerate(sorted(calls)):
        act, known = random.choice(list(Act)), random.random() < 0.9
        expected = state if random.random() < 0.6 else "other"
        value, answer, before = f"v{n}", None, state
        match act:
            case Act.GET:
                answer = state
            case Act.PUT:
                state = value if known or random.random() < 0.5 else state
            case Act.SWAP:
                answer = state == expected
                state = value if answer and (known or random.random() < 0.5) else state
            case Act.DELETE:
                answer = state is not None
                state = None if known or random.random() < 0.5 else state
        del before
        history.append(
            Operation(client, "k", act, called, returned, value, expected, answer if known else None, known)
        )
    return history


@given(seed=st.integers(0, 10_000), clients=st.integers(1, 5), length=st.integers(1, 20))
def test_a_right_register_is_never_accused(seed: int, clients: int, length: int) -> None:
    assert all(verdict.ok and verdict.decided for verdict in check(_real(seed, clients, length)))


@given(seed=st.integers(0, 10_000))
def test_a_read_of_what_was_overwritten_long_before_is_found(seed: int) -> None:
    history = _real(seed, 3, 12)
    end_s = max(one.returned_s for one in history)
    late = [put(end_s + 1, end_s + 2, "last"), put(end_s + 3, end_s + 4, "very last")]
    assert check([*history, *late, get(end_s + 5, end_s + 6, "very last")])[0].ok
    assert not check([*history, *late, get(end_s + 5, end_s + 6, "last")])[0].ok


def test_revisions_follow_time() -> None:
    first = op(Act.PUT, 0, 1, value="a", revision=5)
    beside = op(Act.PUT, 0.5, 2, value="b", revision=4)
    later = op(Act.PUT, 1.5, 3, value="c", revision=6)
    assert not out_of_order([first, beside, later])
    wrong = op(Act.PUT, 2.5, 3, value="d", revision=5)
    assert out_of_order([first, beside, later, wrong]) == [(first, wrong)]
