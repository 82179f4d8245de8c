"""Join tokens as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmplane.credentials.join_token import JoinToken, new_join_token, parse_join_token
from swarmplane.errors import InvalidRequestError
from swarmplane.ids import TokenId

base32 = "abcdefghijklmnopqrstuvwxyz234567"
tokens = st.builds(
    lambda a, b, c: JoinToken(TokenId(a), b, c),
    *(st.text(base32, min_size=size, max_size=size) for size in (13, 26, 52)),
)


@given(tokens)
def test_what_is_written_is_read(token: JoinToken) -> None:
    assert parse_join_token(f" \n{token.format()}\r\n") == token


@given(st.text() | st.text(base32 + ".").map(lambda text: f"swp1.{text}"))
def test_anything_else_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_join_token(text)
    assert "swp1.<id>" in caught.value.message
    assert len(text) < 6 or text.strip() not in caught.value.message


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_token_that_was_cut_is_none(cut: int) -> None:
    with pytest.raises(InvalidRequestError):
        parse_join_token(new_join_token("a" * 52).format()[:-cut])


def test_no_log_ever_has_the_secret() -> None:
    token = new_join_token("a" * 52)
    assert token.secret not in repr(token)
    assert token.secret in token.format()


def test_two_tokens_share_nothing() -> None:
    one, other = new_join_token("a" * 52), new_join_token("a" * 52)
    assert one.id != other.id
    assert one.secret != other.secret
