"""A fake Ollama that speaks its native API, with models that load, reload and are pulled: ``python -m
tests.fakes.ollama --model llama3.2:3b,resident=8192 --model nomic-embed-text,capabilities=embedding``.

Faults are those of :mod:`tests.fakes.backend`. ``GET /fake`` also shows loads and reloads.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import fields
from typing import Any

from tests.fakes.backend import FakeBackend, arguments, running_backend, serve
from tests.fakes.ollama_voice import OllamaModel, OllamaVoice, model


def parse_model(text: str) -> OllamaModel:
    """``NAME,fact=value,…``: facts are fields of :class:`OllamaModel`; capabilities are joined by ``+``."""
    name, *parts = text.split(",")
    kinds = {one.name: type(getattr(OllamaModel("x"), one.name)) for one in fields(OllamaModel)}
    facts: dict[str, Any] = {}
    for part in parts:
        key, _, value = part.partition("=")
        facts[key] = tuple(value.split("+")) if key == "capabilities" else kinds[key](value)
    return model(name, **facts)


def voice(models: Iterable[str | OllamaModel], **state: Any) -> OllamaVoice:
    """A server's state; a model with ``resident`` is loaded."""
    listed = [parse_model(one) if isinstance(one, str) else one for one in models]
    server = OllamaVoice(models={one.name: one for one in listed}, **state)
    for one in listed:
        if one.resident:
            server.load(one.name, one.resident)
    return server


@contextlib.asynccontextmanager
async def running_ollama(
    *models: str | OllamaModel, backend: dict[str, Any] | None = None, **state: Any
) -> AsyncIterator[tuple[FakeBackend, OllamaVoice]]:
    """A server in this process; ``state`` is the voice's, ``backend`` the :class:`FakeBackend`'s."""
    speaks = voice(models or ("m1",), **state)
    async with running_backend(voice=speaks, **(backend or {})) as one:
        yield one, speaks


def main() -> None:
    parser = arguments("python -m tests.fakes.ollama", "A fake Ollama that fails on request.")
    parser.add_argument("--model", action="append", default=[], help="NAME,fact=value,…; repeatable")
    parser.add_argument("--can-pull", action="append", default=[], help="likewise, not there yet")
    parser.add_argument("--load-s", type=float, default=0.0, help="what loading takes")
    parser.add_argument("--pull-s", type=float, default=0.0, help="what a pull takes")
    parser.add_argument("--default-context", type=int, default=4096)
    options = parser.parse_args()
    library = [parse_model(one) for one in options.can_pull]
    speaks = voice(
        options.model or ["m1"],
        load_s=options.load_s,
        pull_s=options.pull_s,
        default_context=options.default_context,
        library={one.name: one for one in library},
    )
    serve(options, voice=speaks)


if __name__ == "__main__":
    main()
