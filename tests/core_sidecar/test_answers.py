from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.answers import Answer, Hint, Refusal, Verdict, hint_of, judge, needs_hint


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        *[(Answer(status), Verdict.RELAY) for status in (200, 201, 302, 400, 401, 403, 404, 405, 413, 422)],
        *[(Answer(status), Verdict.RELAY) for status in (501, 505, 507)],
        *[(Answer(status), Verdict.FAILURE) for status in (500, 502, 503, 504)],
        (Answer(429), Verdict.FULL),
        (Answer(503, retry_after_s=2), Verdict.FULL),
        (Answer(503, hint=Hint.BUSY), Verdict.FULL),
        (Answer(503, hint=Hint.LOADING), Verdict.LOADING),
        (Answer(503, retry_after_s=2, hint=Hint.LOADING), Verdict.LOADING),
        (Answer(500, retry_after_s=2), Verdict.FAILURE),
        (Answer(404, hint=Hint.MISSING_MODEL), Verdict.GONE),
        (Answer(400, hint=Hint.MISSING_MODEL), Verdict.RELAY),
        (Answer(421, refusal="gone"), Verdict.GONE),
        (Answer(421, refusal="stale_epoch"), Verdict.GONE),
        (Answer(429, refusal="full"), Verdict.FULL),
        (Answer(503, refusal="draining"), Verdict.DRAINING),
        (Answer(503, refusal="loading"), Verdict.LOADING),
        (Answer(503, refusal="expired"), Verdict.EXPIRED),
        (Answer(503, refusal="a-word-of-tomorrow"), Verdict.DRAINING),
        (Answer(200, refusal=""), Verdict.DRAINING),
    ],
    ids=str,
)  # fmt: skip
def test_judge(answer: Answer, verdict: Verdict) -> None:
    """Kills: status before refusal, every 5xx a failure, 429 relayed, Retry-After on any 5xx as full."""
    found, refusal = judge(answer)
    assert found is verdict
    assert (refusal is None) == (answer.refusal is None)


@given(st.integers(400, 499).filter(lambda s: s not in {404, 429}), st.floats(0, 100))
def test_other_4xx_are_always_the_clients(status: int, retry_after_s: float) -> None:
    assert judge(Answer(status, retry_after_s=retry_after_s)) == (Verdict.RELAY, None)


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (404, b'{"error":{"message":"The model `tiny` does not exist.","code":404}}', Hint.MISSING_MODEL),
        (
            404,
            b'{"error":{"message":"model \\"tiny\\" not found, try pulling it first"}}',
            Hint.MISSING_MODEL,
        ),
        (404, b'{"error":"model \'TINY\' not found"}', Hint.MISSING_MODEL),
        (404, b'{"detail":"Not Found"}', Hint.NONE),
        (404, b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}', Hint.NONE),
        (404, b"The model `other` does not exist.", Hint.NONE),
        (404, b"no such path: /v1/tiny", Hint.NONE),
        (404, b"", Hint.NONE),
        (503, b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}', Hint.LOADING),
        (503, b"the model is loading", Hint.LOADING),
        (503, b'{"error":"server busy, please try again. maximum pending requests exceeded"}', Hint.BUSY),
        (503, b"\xff\xfe", Hint.NONE),
        (503, b" " * 5000 + b"server busy", Hint.NONE),
    ],
)
def test_hint_of(status: int, body: bytes, hint: Hint) -> None:
    """Kills: case kept, any 404 as missing, reading an unbounded body, strict decoding."""
    assert hint_of(status, body, "Tiny") is hint
    assert needs_hint(status)


def test_a_model_whose_name_says_model_is_not_taken_for_the_word() -> None:
    """Kills: looking for the word in the text with the name still in it."""
    assert hint_of(404, b"my-model: no such path", "my-model") is Hint.NONE
    assert hint_of(404, b"the model my-model is not here", "my-model") is Hint.MISSING_MODEL


@pytest.mark.parametrize("status", [200, 400, 429, 500, 502])
def test_other_bodies_are_not_read(status: int) -> None:
    assert not needs_hint(status)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("gone", 421),
        ("full", 429),
        ("draining", 503),
        ("loading", 503),
        ("stale_epoch", 421),
        ("expired", 503),
    ],
)
def test_refusals_have_the_statuses_of_the_protocol(text: str, status: int) -> None:
    assert Refusal.of(text).value == text
    assert Refusal.of(text).http_status == status


def test_unknown_refusals() -> None:
    assert Refusal.of("new") is Refusal.OTHER
    assert Refusal.of("new").http_status == 503
