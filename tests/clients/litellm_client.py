"""What the unmodified ``litellm`` package gets: ``python litellm_client.py URL MODEL`` prints a JSON object.

A program of its own: importing it takes seconds and it changes its process in many ways. The seconds are a
processor's, a minute on a machine that does much else; two fifths of them went to collecting garbage while
thousands of classes are made, and to taking the process apart at its end.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

gc.disable()

import litellm  # noqa: E402 - nothing is collected while it is imported

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WORDS: Any = [{"role": "user", "content": "good day"}]
CITIES: Any = [{"role": "user", "content": "weather in Paris and Rome"}]


def arguments(calls: Any) -> list[Any]:
    """Of each call, read."""
    return [json.loads(call.function.arguments) for call in calls or ()]


def streamed(chunks: Any) -> list[Any]:
    """Arguments of calls that came in pieces, by id: its provider for Ollama numbers every call 0."""
    texts: list[str] = []
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or ():
            if call.id:
                texts.append("")
            texts[-1] += call.function.arguments or ""
    return [json.loads(text) for text in texts]


def chat(**how: Any) -> dict[str, Any]:
    """Chat, stream, tools and JSON through one of its providers."""
    whole = litellm.completion(messages=WORDS, **how)
    told: dict[str, Any] = {
        "whole": whole.choices[0].message.content,
        "reason": whole.choices[0].finish_reason,
        "tokens": whole.usage.completion_tokens,
    }
    chunks = list(litellm.completion(messages=WORDS, stream=True, **how))
    told["stream"] = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    called = litellm.completion(messages=CITIES, tools=[WEATHER], **how)
    told["calls"] = arguments(called.choices[0].message.tool_calls)
    chunks = list(litellm.completion(messages=CITIES, tools=[WEATHER], stream=True, **how))
    told["streamed_calls"] = streamed(chunks)
    try:
        litellm.completion(
            messages=WORDS, **{**how, "model": how["model"].partition("/")[0] + "/nobody-has-it"}
        )
    except litellm.NotFoundError:
        told["unknown"] = "not found"
    except litellm.APIConnectionError as error:
        # What its provider for Ollama makes of any answer that is not 200.
        told["unknown"] = "not found" if "does not exist" in str(error) else str(error)
    return told


def main() -> None:
    """Ask by each provider named: ``openai=MODEL``, ``anthropic=MODEL``, ``ollama_chat=MODEL``."""
    url, *wanted = sys.argv[1:]
    litellm.num_retries = 0
    told: dict[str, Any] = {}
    for one in wanted:
        provider, _, model = one.partition("=")
        base = f"{url}/v1" if provider == "openai" else url
        key = {} if provider == "ollama_chat" else {"api_key": "none"}
        told[one] = chat(model=f"{provider}/{model}", api_base=base, timeout=30, max_tokens=64, **key)
    print(json.dumps(told), flush=True)  # noqa: T201
    os._exit(0)


if __name__ == "__main__":
    main()
