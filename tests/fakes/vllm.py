"""A fake vLLM: OpenAI's API with tools, JSON, images and embeddings.

``python -m tests.fakes.vllm --model m1``. Faults are those of :mod:`tests.fakes.backend`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.fakes.backend import FakeBackend, arguments, running_backend, serve
from tests.fakes.openai_voice import OpenAIVoice


@contextlib.asynccontextmanager
async def running_vllm(
    *models: str, backend: dict[str, Any] | None = None, **state: Any
) -> AsyncIterator[tuple[FakeBackend, OpenAIVoice]]:
    """A server in this process; ``state`` is the voice's, ``backend`` the :class:`FakeBackend`'s."""
    speaks = OpenAIVoice(models=models or ("m1",), **state)
    async with running_backend(voice=speaks, **(backend or {})) as one:
        yield one, speaks


def main() -> None:
    parser = arguments("python -m tests.fakes.vllm", "A fake vLLM that fails on request.")
    parser.add_argument("--model", action="append", default=[], help="a model that it has; repeatable")
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--thinks", action="store_true", help="its models reason before they answer")
    parser.add_argument("--owner", default="vllm", help="owned_by of its models")
    options = parser.parse_args()
    speaks = OpenAIVoice(
        models=tuple(options.model) or ("m1",),
        context=options.context,
        thinks=options.thinks,
        owner=options.owner,
    )
    serve(options, voice=speaks)


if __name__ == "__main__":
    main()
