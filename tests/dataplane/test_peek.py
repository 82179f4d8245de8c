"""Looking into bodies and changing nothing but what is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.dataplane import multipart
from sidecar.dataplane.multipart import peek_multipart, scan
from sidecar.dataplane.peek import ROUTING_KEYS, locate, peek
from sidecar.dataplane.splice import rename_answer, rename_events, splice
from swarmplane.errors import InvalidRequestError

plain_keys = st.text(max_size=6).filter(lambda key: key.casefold() not in ROUTING_KEYS)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


@given(
    st.dictionaries(plain_keys, values, max_size=5),
    st.text(min_size=1, max_size=8),
    layouts,
    st.integers(0, 5),
)
@example({}, '"', {}, 0)
@example({"é": 1, "\\": "}"}, "a", {}, 1)
def test_the_span_is_the_models(rest: dict[str, Any], model: str, layout: dict[str, Any], place: int) -> None:
    items = list(rest.items())
    items.insert(min(place, len(items)), ("model", model))
    try:
        body = json.dumps(dict(items), **layout).encode()
    except UnicodeEncodeError:
        return
    try:
        found = peek(body)
    except InvalidRequestError:
        # Lone surrogates are text to Python, and none to JSON in UTF-8.
        assert any(0xD800 <= ord(c) <= 0xDFFF for c in json.dumps(dict(items), ensure_ascii=False))
        return
    assert found.model == model
    changed = splice(body, [(*found.model_span, b'"other"')])
    assert json.loads(changed) == {**dict(items), "model": "other"}


@given(st.dictionaries(plain_keys, values, max_size=5), st.integers(0, 5))
def test_a_body_without_space_is_measured_not_walked(rest: dict[str, Any], place: int) -> None:
    """Kills: a wrong size of a key, a comma too many, the model's place taken for the first."""
    items = list(rest.items())
    items.insert(min(place, len(items)), ("model", "m"))
    body = json.dumps(dict(items), separators=(",", ":")).encode()
    try:
        found = peek(body)
    except InvalidRequestError:
        return
    assert found.members is not None
    assert found.spans == locate(body, found.members)
    assert found.model_span == found.spans["model"][1:]


@given(
    st.dictionaries(plain_keys, values, max_size=4),
    st.lists(st.sampled_from(["fallback", "fallback_models", "metadata"]), unique=True),
    st.dictionaries(plain_keys, st.text(max_size=4), max_size=2),
    layouts,
    st.randoms(use_true_random=False),
)
def test_extras_are_cut_out_cleanly(
    rest: dict[str, Any], extras: list[str], metadata: dict[str, str], layout: dict[str, Any], random: Any
) -> None:
    items = [*rest.items(), ("model", "m")]
    for name in extras:
        value: Any = {**metadata, "tags": ["a"]} if name == "metadata" else ["x"]
        items.insert(random.randrange(len(items) + 1), (name, value))
    document = dict(items)
    try:
        body = json.dumps(document, **layout).encode()
        found = peek(body)
    except (UnicodeEncodeError, InvalidRequestError):
        return
    left = json.loads(splice(body, [(start, end, b"") for start, end in found.removals]))
    wanted = {k: v for k, v in document.items() if k not in {"fallback", "fallback_models"}}
    if "metadata" in wanted:
        wanted["metadata"] = {k: v for k, v in wanted["metadata"].items() if k != "tags"}
    assert left == wanted


@given(
    st.lists(
        st.tuples(st.sampled_from(["model", "a", "b", "stream"]), st.sampled_from(['"x"', "true"])),
        max_size=5,
    )
)
def test_duplicates_never_pass(pairs: list[tuple[str, str]]) -> None:
    for gap in ("", " "):
        body = ("{" + f",{gap}".join(f'"{key}":{gap}{value}' for key, value in pairs) + "}").encode()
        keys = [key for key, _ in pairs]
        try:
            peek(body)
        except InvalidRequestError:
            continue
        assert len(keys) == len(set(keys))
        assert dict(pairs)["model"] == '"x"'


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","x":1,"x":1}',
        b'{"x":{},"model":"a","x":{}}',
        b'{"model":"a" , "model" : "a"}',
        b'{"model":"a","":1,"":1}',
        b'{"model":"a","\\u0078":1,"x":1}',
        b'{"model":"a","x":1,"\\u0078":1}',
        b'{"MODEL":"a","model":"b"}',
        b'{"model":"a","Stream":true}',
        '{"model":"a","\u212aeep_alive":1}'.encode(),
        b'{"model":"a","metadata":{"tags":1,"tags":2}}',
    ],
)
def test_ambiguous_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        peek(body)


def test_escaped_keys_that_are_not_ours_pass() -> None:
    assert peek(b'{"caf\\u00e9": 1, "model": "a"}').model == "a"


def test_a_bytearray_is_as_good() -> None:
    found = peek(bytearray(b'{"model":"a","fallback":true}'))
    assert (
        splice(bytearray(b'{"model":"a","fallback":true}'), [(s, e, b"") for s, e in found.removals])
        == b'{"model":"a"}'
    )


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b'{"id":1,"model":"b","x":{"model":"b"}}', b'{"id":1,"model":"a","x":{"model":"b"}}'),
        (b'{"id":1}', b'{"id":1}'),
        (b"[1]", b"[1]"),
        (b"not json", b"not json"),
        (b'{"model":null}', b'{"model":"a"}'),
        (b"", b""),
    ],
)
def test_the_asked_name_comes_back(answer: bytes, wanted: bytes) -> None:
    assert rename_answer(answer, b'"a"') == wanted


def test_events_are_renamed_line_by_line() -> None:
    lines = (
        b': c\nevent: x\ndata: {"model":"b"}\n\ndata:{"model": "b"}\r\n\r\ndata: "model"\n\ndata: [DONE]\n\n'
    )
    assert rename_events(lines, b'"a"') == lines.replace(b'"b"', b'"a"')


FORM = b'--b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (FORM % (b"model", b"m") + b"--b--\r\n", "m"),
        (b"preamble\r\n" + FORM % (b"file", b"--bb\r\n\r\n") + FORM % (b"model", b"m") + b"--b--", "m"),
        (FORM % (b"x", b"1") + b"--b--\r\n", None),
        (FORM % (b"model", b"m") * 2 + b"--b--\r\n", None),
        (FORM % (b"model", b"") + b"--b--\r\n", None),
        (FORM % (b"model", b"\xff") + b"--b--\r\n", None),
        (b"", None),
    ],
)
def test_forms(body: bytes, model: str | None) -> None:
    kind = b"multipart/form-data; boundary=b"
    if model is None:
        with pytest.raises(InvalidRequestError):
            peek_multipart(body, kind)
        return
    found = peek_multipart(body, kind)
    assert found.model == model
    assert body[slice(*found.model_span)] == model.encode()


def test_more_members_than_anybody_means_are_refused_before_they_cost_seconds() -> None:
    """Kills: no bound; counting text as structure; counting after the walk."""
    many = b'{"model":"m",' + b",".join(b'"k%d":1' % number for number in range(1_001)) + b"}"
    with pytest.raises(InvalidRequestError, match="top-level"):
        peek(many)
    millions = b'{"model":"m",' + b",".join(b'"%d":1' % number for number in range(200_000)) + b"}"
    with pytest.raises(InvalidRequestError, match="too many"):
        peek(millions)
    talk = {"model": "m", "messages": [{"role": "user", "content": 'print("hi")' * 100_000}]}
    assert peek(json.dumps(talk).encode()).model == "m"


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(12, 40))
def test_a_form_is_read_in_steps_like_in_one(filler: bytes, before: int, step: int) -> None:
    """Kills: a boundary across two steps that nobody sees, a step without end."""
    file = FORM % (b"file", filler.replace(b"--b", b"--c") + b"\r\n--" * before)
    body = file + FORM % (b"model", b"m") + b"--b--\r\n"
    kind = b"multipart/form-data; boundary=b"
    whole = peek_multipart(body, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "STEP_BYTES", step)
        steps = scan(body, kind)
        count = 0
        while True:
            try:
                next(steps)
                count += 1
            except StopIteration as done:
                found = done.value
                break
    assert (found.model, found.model_span) == (whole.model, whole.model_span)
    assert count <= len(body) // (step - 6) + 3
