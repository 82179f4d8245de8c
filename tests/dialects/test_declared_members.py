"""What docs/reference/dialects.md says of each member is true: the page is written from the same tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.dialects.fields import Coded, Fate, Ignored, Refused
from sidecar.dialects.ollama_chat import OPTIONS
from sidecar.dialects.settings import Setting
from sidecar.dialects.surfaces import SURFACES
from sidecar.dialects.translate import NATIVE
from swarmplane.errors import InvalidRequestError
from tests.dialects.scripts import outgoing

HI = [{"role": "user", "content": "hi"}]
PLAIN: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 9},
    "/api/chat": {"messages": HI},
    "/api/generate": {"prompt": "hi"},
    "/api/embed": {"input": "hi"},
    "/api/embeddings": {"prompt": "hi"},
}
SAMPLES: dict[str, Any] = {"stop": ["x"], "logprobs": True}


def _members(*kinds: type) -> list[Any]:
    return list(_found(*kinds))


def _found(*kinds: type) -> Iterator[Any]:
    """Path, backend, member and fate of everything declared that is of ``kinds``."""
    for path, surface in SURFACES.items():
        for backend in surface.backends:
            rows: list[tuple[str, Fate]] = list(surface.fields.items())
            if "options" in surface.fields and isinstance(surface.fields["options"], Coded):
                rows += [(f"options.{name}", fate) for name, fate in OPTIONS.items()]
            for name, fate in rows:
                if isinstance(fate, kinds):
                    yield pytest.param(path, backend, name, fate, id=f"{path}-{backend}-{name}")


def _with(path: str, backend: str, name: str, value: Any) -> dict[str, Any]:
    """The backend's body for a plain request that has the member ``name`` too."""
    outer, _, inner = name.partition(".")
    body = PLAIN[path] | {outer: {inner: value} if inner else value}
    found: dict[str, Any] = json.loads(outgoing(path.encode(), body, frozenset({backend})).body)
    return found


def _at(body: dict[str, Any], spelling: str) -> Any:
    outer, _, inner = spelling.partition(".")
    return body[outer][inner] if inner else body[outer]


@pytest.mark.parametrize(("path", "backend", "name", "fate"), _members(Setting))
def test_a_setting_stands_where_the_page_says(path: str, backend: str, name: str, fate: Setting) -> None:
    """Kills: two settings changed for each other, a slip in a spelling, one of two spellings written."""
    value = SAMPLES.get(fate.name, 7)
    spellings = fate.spellings(backend)
    body = _with(path, backend, name, value)
    for spelling in spellings if fate.all_written else spellings[:1]:
        assert _at(body, spelling) == value


@pytest.mark.parametrize(("path", "backend", "name", "fate"), _members(Ignored))
def test_what_is_left_out_changes_nothing(path: str, backend: str, name: str, fate: Ignored) -> None:
    plain = json.loads(outgoing(path.encode(), PLAIN[path], frozenset({backend})).body)
    for value in (1, "x", {"a": 1}, True, None):
        assert _with(path, backend, name, value) == plain, fate.why


@pytest.mark.parametrize(("path", "backend", "name", "fate"), _members(Refused))
def test_what_is_refused_is_named(path: str, backend: str, name: str, fate: Refused) -> None:
    """Kills: a refusal that names another member, an inert value that is refused, a refusal of null."""
    with pytest.raises(InvalidRequestError) as error:
        _with(path, backend, name, {"some": "thing"})
    assert error.value.details["param"] == name
    assert fate.why in error.value.message
    plain = json.loads(outgoing(path.encode(), PLAIN[path], frozenset({backend})).body)
    for value in (None, False, "", [], {}, *(json.loads(one) for one in fate.inert)):
        assert _with(path, backend, name, value) == plain


@pytest.mark.parametrize("path", SURFACES)
def test_what_is_unknown_is_refused_by_name_unless_it_asks_for_nothing(path: str) -> None:
    backend = SURFACES[path].backends[0]
    with pytest.raises(InvalidRequestError) as error:
        _with(path, backend, "made_up", 1)
    assert error.value.details["param"] == "made_up"
    assert "made_up" not in _with(path, backend, "made_up", None)


@pytest.mark.parametrize(("path", "backend", "name", "fate"), _members(Coded))
def test_what_is_read_is_explained_for_every_backend(path: str, backend: str, name: str, fate: Coded) -> None:
    assert path in PLAIN
    assert fate.openai if backend == "openai" else fate.ollama, name


def test_every_path_that_is_translated_is_declared() -> None:
    assert {path.decode() for path in NATIVE} - {"/v1/messages/count_tokens"} == set(SURFACES)
