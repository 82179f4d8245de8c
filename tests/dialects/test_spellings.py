"""How each dialect spells what all of them mean alike, written down after their own documents.

The tables that translate are compared with themselves elsewhere; a slip in both columns of one shows here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from swarmplane.errors import InvalidRequestError
from tests.dialects.scripts import (
    CHAT,
    COMPLETIONS,
    MESSAGES,
    OLLAMA,
    OLLAMA_CHAT,
    OPENAI,
    RESPONSES,
    outgoing,
)

HI = [{"role": "user", "content": "hi"}]
BOTH = {
    "temperature": 0.1,
    "top_p": 0.2,
    "top_k": 3,
    "min_p": 0.4,
    "typical_p": 0.5,
    "seed": 6,
    "stop": ["seven"],
    "presence_penalty": 0.8,
    "frequency_penalty": 0.9,
    "repeat_penalty": 1.1,
    "repeat_last_n": 12,
    "mirostat": 1,
    "mirostat_tau": 1.4,
    "mirostat_eta": 1.5,
}
"""Names that Ollama has in ``options`` and servers of OpenAI's dialect at the top level."""


def sent(path: bytes, body: dict[str, Any], spoken: frozenset[str]) -> Any:
    return json.loads(outgoing(path, body, spoken).body)


@pytest.mark.parametrize(("path", "plain"), [(CHAT, {"messages": HI}), (COMPLETIONS, {"prompt": "hi"})])
def test_of_openai_for_ollama(path: bytes, plain: dict[str, Any]) -> None:
    body = sent(path, plain | BOTH | {"max_tokens": 16, "stop": "seven"}, OLLAMA)
    assert body["options"] == BOTH | {"num_predict": 16}
    newer = sent(path, plain | {"max_completion_tokens": 17, "repetition_penalty": 1.2}, OLLAMA)
    assert newer["options"] == {"num_predict": 17, "repeat_penalty": 1.2}


def test_of_ollama_for_openai() -> None:
    body = sent(OLLAMA_CHAT, {"messages": HI, "options": BOTH | {"num_predict": 16, "num_ctx": 4096}}, OPENAI)
    plain = sent(OLLAMA_CHAT, {"messages": HI}, OPENAI)
    # vLLM knows one name of the penalty, llama.cpp the other; the limit has one that all know.
    assert body == plain | BOTH | {"max_tokens": 16, "repetition_penalty": 1.1}


def test_of_anthropic_and_of_responses() -> None:
    said = {"max_tokens": 9, "temperature": 0.1, "top_p": 0.2, "top_k": 3, "stop_sequences": ["seven"]}
    body = sent(MESSAGES, {"messages": HI} | said, OLLAMA)
    assert body["options"] == {
        "num_predict": 9,
        "temperature": 0.1,
        "top_p": 0.2,
        "top_k": 3,
        "stop": ["seven"],
    }
    body = sent(RESPONSES, {"input": "hi", "max_output_tokens": 9, "temperature": 0.1, "top_p": 0.2}, OLLAMA)
    assert body["options"] == {"num_predict": 9, "temperature": 0.1, "top_p": 0.2}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": 5}]},
            "messages[1].content",
        ),
        ({"messages": HI, "stop": ["x", 5]}, "stop[1]"),
        ({"messages": HI, "max_tokens": 1.5}, "max_tokens"),
        ({"messages": HI, "max_tokens": "9"}, "max_tokens"),
    ],
)
def test_a_wrong_type_is_told_with_its_place(body: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        outgoing(CHAT, body, OLLAMA)
    assert error.value.details["param"] == where


@pytest.mark.parametrize("options", [{"num_predict": 1.5}, {"num_gpus": 1}, {"stop": 5}])
def test_an_option_is_named_with_its_place(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as error:
        outgoing(OLLAMA_CHAT, {"messages": HI, "options": options}, OPENAI)
    assert error.value.details["param"] == f"options.{next(iter(options))}"
