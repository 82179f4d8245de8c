"""Who answers so. Docstrings name the mutants seen to be killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.identify import (
    AGENTS,
    GENERIC,
    LLAMA_SERVER,
    LM_STUDIO,
    LOADED,
    LOCALAI,
    MLX,
    MODELS,
    OLLAMA,
    REST,
    SIGNATURES,
    SYSTEM,
    TAGS,
    VERSION,
    WELL_KNOWN,
    Answer,
    Identity,
    Standing,
    entries_of,
    identify,
)

PATHS = (WELL_KNOWN, MODELS, VERSION, TAGS, LOADED, REST, AGENTS, SYSTEM)
KINDS = {GENERIC, OLLAMA, LM_STUDIO, LOCALAI, MLX, *SIGNATURES.values()}
STRANGER = Identity(Standing.STRANGER)

_names = st.sampled_from(
    ("swarm", "data", "models", "version", "object", "error", "backends", "loaded_models", "endpoints")
)
_entries = st.lists(
    st.one_of(
        st.none(),
        st.fixed_dictionaries(
            {},
            optional={
                "id": st.just("m"),
                "owned_by": st.sampled_from(("library", "llamacpp", "vllm", "me", 1)),
                "state": st.sampled_from(("loaded", None)),
                "type": st.just("llm"),
            },
        ),
    ),
    max_size=3,
)
_values = st.one_of(st.none(), st.just("0.12.6"), st.just("list"), st.integers(0, 1), _entries)
_documents = st.one_of(st.none(), st.lists(st.integers(), max_size=1), st.dictionaries(_names, _values))
_answers = st.builds(
    Answer,
    st.sampled_from((0, 200, 200, 200, 401, 403, 404, 405, 500, 503)),
    _documents,
    st.sampled_from(("", "BaseHTTP/0.6 Python/3.12", "nginx")),
)
servers = st.fixed_dictionaries(dict.fromkeys(PATHS, _answers))


def asked(server: Mapping[str, Answer]) -> tuple[Identity, list[str]]:
    """Ask ``server`` until it is known; and what was asked, in order."""
    answers: dict[str, Answer] = {}
    while isinstance(found := identify(answers), str):
        assert found not in answers, "no path is asked twice"
        answers[found] = server.get(found, Answer(404))
    return found, list(answers)


def ok(document: Any, server: str = "") -> Answer:
    return Answer(200, document, server)


@given(servers)
def test_it_is_known_after_few_questions_and_by_the_answers_alone(server: Mapping[str, Answer]) -> None:
    """Kills: a path asked again, a verdict that depends on what was not asked, a backend without a kind."""
    found, order = asked(server)
    assert len(order) <= len(PATHS)
    assert order[0] == WELL_KNOWN
    assert identify({path: server[path] for path in reversed(order)}) == found
    assert identify(server) == found
    if found.standing in {Standing.NODE, Standing.STRANGER}:
        assert found.kind == ""
    else:
        assert found.kind in KINDS


@given(servers)
def test_a_node_is_never_a_backend(server: Mapping[str, Answer]) -> None:
    """Kills: the node asked last, a node told by any document, by a status that is none."""
    found, order = asked({**server, WELL_KNOWN: ok({"swarm": "s"})})
    assert (found, order) == (Identity(Standing.NODE), [WELL_KNOWN])
    for status in (0, 404, 500):
        found, _ = asked({**server, WELL_KNOWN: Answer(status, {"swarm": "s"})})
        assert found.standing is not Standing.NODE


@given(servers)
def test_ollama_answers_as_ollama_at_three_paths(server: Mapping[str, Answer]) -> None:
    """Kills: each of the three left out, a version that is no text, a list that is none, any status."""
    found, _ = asked(server)
    if found.kind != OLLAMA:
        return
    version, tags, loaded = (server[path] for path in (VERSION, TAGS, LOADED))
    assert {version.status, tags.status, loaded.status} == {200}
    assert isinstance(version.document, dict)
    assert isinstance(version.document["version"], str)
    assert entries_of(tags.document, "models") is not None
    assert entries_of(loaded.document, "models") is not None


@given(_answers)
def test_who_answers_the_same_to_all_is_nobody_special(answer: Answer) -> None:
    """Kills: an Ollama by a document that has everything; a server of web pages has one for all paths."""
    if isinstance(answer.document, dict) and "swarm" in answer.document:
        return
    found, _ = asked(dict.fromkeys(PATHS, answer))
    assert found.kind != OLLAMA


@given(servers, st.sampled_from((200, 404, 500, 0)))
def test_without_a_list_of_models_it_is_ollama_or_a_stranger(
    server: Mapping[str, Answer], status: int
) -> None:
    """Kills: a web page taken for a backend, a JSON service taken for one."""
    found, _ = asked({**server, MODELS: Answer(status, {"hello": "world"})})
    assert found in {STRANGER, Identity(Standing.NODE), Identity(Standing.BACKEND, OLLAMA)}


LISTED = {"object": "list", "data": [{"id": "m", "object": "model"}]}
OLLAMAS = {
    MODELS: ok({"object": "list", "data": [{"id": "m", "owned_by": "library"}]}),
    VERSION: ok({"version": "0.12.6"}),
    TAGS: ok({"models": [{"name": "m:latest"}]}),
    LOADED: ok({"models": []}),
}
LM_STUDIOS: Any = ok({"data": [{"id": "m", "object": "model", "type": "llm", "state": "not-loaded"}]})


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        pytest.param({MODELS: ok({"data": [{"id": "m", "owned_by": "vllm"}]})}, "vllm", id="signed"),
        pytest.param(
            {MODELS: ok({"data": [{"id": "m", "owned_by": "me too"}, {"id": "n", "owned_by": "llamacpp"}]})},
            LLAMA_SERVER,
            id="signed-by-one",
        ),
        pytest.param(OLLAMAS, OLLAMA, id="ollama"),
        pytest.param({**OLLAMAS, MODELS: Answer(404)}, OLLAMA, id="ollama-without-openai"),
        pytest.param({**OLLAMAS, MODELS: ok({"object": "list", "data": None})}, OLLAMA, id="ollama-empty"),
        pytest.param({**OLLAMAS, LOADED: Answer(404)}, GENERIC, id="no-ollama-without-ps"),
        pytest.param({**OLLAMAS, VERSION: ok({"version": 1})}, GENERIC, id="no-ollama-with-a-number"),
        pytest.param({**OLLAMAS, LOADED: Answer(500, {"models": []})}, GENERIC, id="no-ollama-that-fails"),
        pytest.param({**OLLAMAS, TAGS: ok({"models": {}})}, GENERIC, id="no-ollama-without-a-list"),
        pytest.param(
            {**OLLAMAS, VERSION: Answer(500, {"version": "1"})}, GENERIC, id="no-ollama-without-a-version"
        ),
        pytest.param(
            {**OLLAMAS, VERSION: ok({"version": "1", "models": []})}, GENERIC, id="no-ollama-that-tells-all"
        ),
        pytest.param({WELL_KNOWN: ok({"hello": 1}), **OLLAMAS}, OLLAMA, id="something-else-is-well-known"),
        pytest.param({MODELS: ok(LISTED), REST: LM_STUDIOS}, LM_STUDIO, id="lm-studio"),
        pytest.param(
            {MODELS: ok(LISTED), REST: Answer(500, LM_STUDIOS.document)},
            GENERIC,
            id="lm-studio-fails",
        ),
        pytest.param(
            {MODELS: ok(LISTED), REST: ok({"data": [*LM_STUDIOS.document["data"], {"id": "n"}]})},
            GENERIC,
            id="half-of-lm-studio",
        ),
        pytest.param({MODELS: ok(LISTED), AGENTS: ok({"version": "v3"})}, GENERIC, id="half-of-localai-3"),
        pytest.param({MODELS: ok(LISTED), REST: ok(LISTED)}, GENERIC, id="no-lm-studio"),
        pytest.param({MODELS: ok(LISTED), REST: ok({"data": []})}, GENERIC, id="an-empty-list-tells-nothing"),
        pytest.param(
            {MODELS: ok(LISTED), AGENTS: ok({"version": "v3", "endpoints": {}})}, LOCALAI, id="localai"
        ),
        pytest.param(
            {MODELS: ok(LISTED), SYSTEM: ok({"backends": [], "loaded_models": []})}, LOCALAI, id="localai-2"
        ),
        pytest.param({MODELS: ok(LISTED), SYSTEM: ok({"backends": []})}, GENERIC, id="half-of-localai"),
        pytest.param({MODELS: ok(LISTED, "BaseHTTP/0.6 Python/3.12.1")}, MLX, id="mlx-lm"),
        pytest.param(
            {MODELS: ok({"data": [{"id": "m", "owned_by": "x"}]}, "BaseHTTP/0.6")}, GENERIC, id="other-python"
        ),
        pytest.param({MODELS: ok(LISTED, "uvicorn")}, GENERIC, id="anybody"),
    ],
)
def test_kinds(server: Mapping[str, Answer], kind: str) -> None:
    assert asked(server)[0] == Identity(Standing.BACKEND, kind)


@pytest.mark.parametrize(
    ("listed", "standing"),
    [
        pytest.param(Answer(401, {"error": "Unauthorized"}), Standing.NEEDS_KEY, id="wants-a-key"),
        pytest.param(Answer(403, {"error": {}}), Standing.NEEDS_KEY, id="forbids"),
        pytest.param(Answer(401, None), Standing.STRANGER, id="a-page-that-wants-a-login"),
        pytest.param(Answer(503, {"error": {"message": "Loading model"}}), Standing.LOADING, id="loads"),
        pytest.param(Answer(503, None), Standing.STRANGER, id="a-page-that-is-down"),
        pytest.param(Answer(500, {"error": {}}), Standing.STRANGER, id="fails"),
        pytest.param(Answer(500, LISTED), Standing.STRANGER, id="fails-with-a-list"),
        pytest.param(Answer(302), Standing.STRANGER, id="sends-elsewhere"),
        pytest.param(Answer(200, {"data": "x"}), Standing.STRANGER, id="a-list-that-is-none"),
        pytest.param(Answer(200, None), Standing.STRANGER, id="a-page"),
    ],
)
def test_refusals(listed: Answer, standing: Standing) -> None:
    """Kills: a key asked for by status alone, loading told by status alone, a list of a failure."""
    found, order = asked({MODELS: listed})
    assert found.standing is standing
    assert order == [WELL_KNOWN, MODELS]


def test_entries() -> None:
    assert entries_of({"object": "list"}, "data") == ()
    assert entries_of({"object": "lists"}, "data") is None
    assert entries_of([], "data") is None
    assert entries_of({"data": {}}, "data") is None
    assert entries_of({"data": [1, {"id": "m"}]}, "data") == ({"id": "m"},)
