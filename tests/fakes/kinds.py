"""Fakes of every kind of inference server that is found by what it answers: ``python -m tests.fakes.kinds
--kind sglang --model m1``. Faults are those of :mod:`tests.fakes.backend`.

What each answers to a GET was recorded from its source or its documentation: only what tells it from others,
its models and how busy it is; ``ANSWERS`` names the version. Inference is OpenAI's, as all of them have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.fakes import metrics_texts
from tests.fakes.backend import FakeBackend, arguments, serve
from tests.fakes.ollama import voice as ollama_voice
from tests.fakes.openai_voice import OpenAIVoice
from tests.fakes.voices import Options, Said, Voice, whole

CREATED: Final = 1_760_000_000
Answers = Mapping[str, Callable[["KindVoice"], Any]]
"""Path → a JSON document, text, or a whole answer."""


@dataclass
class KindVoice(OpenAIVoice):
    """A server that answers GETs as ``answers`` says, and POSTs as OpenAI's do."""

    answers: Answers = field(default_factory=dict)
    server: str = ""
    """Its ``Server`` header."""
    elsewhere: Any = None
    """What it answers with status 200 to a path that it does not know; None: a 404."""
    resident: set[str] | None = None
    """Names of models that are loaded; None: all."""

    def loaded(self, name: str) -> bool:
        return self.resident is None or name in self.resident

    def answer(self, method: str, path: str, body: bytes, options: Options) -> Said:
        """See ``Voice``."""
        said = super().answer(method, path, body, options)
        return replace(said, headers=(f"server: {self.server}",)) if self.server else said

    def _get(self, path: str) -> Said:
        make = self.answers.get(path)
        if make is None:
            unknown = {"error": {"message": "Not Found", "type": "invalid_request_error", "code": 404}}
            return whole(self.elsewhere) if self.elsewhere is not None else whole(unknown, 404)
        answer = make(self)
        if isinstance(answer, Said):
            return answer
        if isinstance(answer, str):
            return Said((answer.encode(),), content_type="text/plain; charset=utf-8")
        return whole(answer)


def _listed(owner: str | None, **more: Any) -> Callable[[KindVoice], Any]:
    def listed(voice: KindVoice) -> Any:
        owned = {} if owner is None else {"owned_by": owner}
        rows = [{"id": name, "object": "model", "created": CREATED, **owned, **more} for name in voice.models]
        return {"object": "list", "data": rows}

    return listed


def _lm_studio(voice: KindVoice) -> Any:
    rows = [
        {
            "id": name,
            "object": "model",
            "type": "llm",
            "publisher": "lmstudio-community",
            "arch": "llama",
            "compatibility_type": "gguf",
            "quantization": "Q4_K_M",
            "state": "loaded" if voice.loaded(name) else "not-loaded",
            "max_context_length": 131_072,
            **({"loaded_context_length": voice.context} if voice.loaded(name) else {}),
        }
        for name in voice.models
    ]
    return {"object": "list", "data": rows}


def _omlx(voice: KindVoice) -> Any:
    rows = [
        {
            "id": name,
            "loaded": voice.loaded(name),
            "is_loading": False,
            "estimated_size": 4_000_000_000,
            "actual_size": 3_900_000_000 if voice.loaded(name) else None,
            "engine_type": "batched",
            "model_type": "llm",
            "max_context_window": voice.context,
        }
        for name in voice.models
    ]
    return {"models": rows}


def _props(voice: KindVoice) -> Any:
    return {
        "default_generation_settings": {"id": 0, "n_ctx": voice.context, "is_processing": False},
        "total_slots": 2,
        "model_alias": voice.models[0],
        "model_path": f"/models/{voice.models[0]}.gguf",
        "model_ftype": "Q8_0",
        "build_info": "b7000-abcdef",
    }


def _system(voice: KindVoice) -> Any:
    loaded = [{"id": name} for name in voice.models if voice.loaded(name)]
    return {"backends": ["llama-cpp", "whisper"], "loaded_models": loaded}


_NOTHING: Final[Callable[[KindVoice], Any]] = lambda _voice: ""  # noqa: E731 - a table of answers
ANSWERS: Final[Mapping[str, Answers]] = {
    # llama.cpp b7000, tools/server; started with --metrics.
    "llama-server": {
        "/health": lambda _: {"status": "ok"},
        "/v1/models": _listed("llamacpp", meta={"n_ctx_train": 131_072, "size": 2_019_000_000}),
        "/props": _props,
        "/slots": lambda voice: [
            {"id": 0, "n_ctx": voice.context, "is_processing": True, "n_prompt_tokens": voice.context // 4},
            {"id": 1, "n_ctx": voice.context, "is_processing": False},
        ],
        "/metrics": lambda _: metrics_texts.LLAMA_SERVER,
    },
    # vLLM 0.11, entrypoints/openai/api_server.py.
    "vllm": {
        "/health": _NOTHING,
        "/version": lambda _: {"version": "0.11.0"},
        "/v1/models": lambda voice: _listed("vllm", root="m", parent=None, max_model_len=voice.context)(
            voice
        ),
        "/metrics": lambda _: metrics_texts.VLLM,
    },
    # SGLang 0.5, srt/entrypoints/http_server.py; started with --enable-metrics.
    "sglang": {
        "/health": _NOTHING,
        "/v1/models": lambda voice: _listed("sglang", root="m", max_model_len=voice.context)(voice),
        "/get_model_info": lambda _: {"model_path": "m", "is_generation": True},
        "/get_server_info": lambda _: {
            "max_running_requests": None,
            "internal_states": [{"effective_max_running_requests_per_dp": 48}],
        },
        "/metrics": lambda _: metrics_texts.SGLANG,
    },
    # LM Studio 0.3.6 and later: documented REST API v0; other paths are answered 200 with an error.
    "lm-studio": {"/v1/models": _listed("organization_owner"), "/api/v0/models": _lm_studio},
    # LocalAI 3, core/http/routes: its list has no owners.
    "localai": {
        "/v1/models": _listed(None),
        "/.well-known/localai.json": lambda _: {"version": "v3.7.0", "endpoints": {"models": "/v1/models"}},
        "/system": _system,
        "/version": lambda _: {"version": "v3.7.0 (abcdef)"},
        "/readyz": _NOTHING,
    },
    # oMLX 0.2, omlx/server.py.
    "omlx": {
        "/v1/models": lambda voice: _listed("omlx", max_model_len=voice.context)(voice),
        "/v1/models/status": _omlx,
    },
    # mlx-lm 0.28, mlx_lm/server.py: Python's own HTTP server; its list has no owners.
    "mlx": {"/v1/models": _listed(None), "/health": lambda _: {"status": "ok"}},
    # Anything else.
    "openai": {"/v1/models": _listed("somebody")},
    # vLLM with --api-key, to one who has none: below /v1 all is closed.
    "locked": {"/health": _NOTHING, "/v1/models": lambda _: whole({"error": "Unauthorized"}, 401)},
    # None: a service that answers the same to all, with what makes an Ollama at each of its paths.
    "impostor": {},
}
_SERVERS: Final = {
    "llama-server": "llama.cpp",
    "vllm": "uvicorn",
    "sglang": "uvicorn",
    "mlx": "BaseHTTP/0.6 Python/3.12.7",
}
_ELSEWHERE: Final = {
    "lm-studio": {"error": "Unexpected endpoint or method. (GET). Returning 200 anyway"},
    "impostor": {"version": "0.12.6", "models": [], "status": "success"},
}
_NO_KINDS: Final = frozenset({"impostor", "locked"})
KINDS: Final = ("ollama", *(kind for kind in ANSWERS if kind not in _NO_KINDS))
"""Every kind that is told from others."""


def voice_of(kind: str, *models: str, **state: Any) -> Voice:
    """A server of this ``kind``."""
    if kind == "ollama":
        return ollama_voice(models or ("m1",), **state)
    return KindVoice(
        models=models or ("m1",),
        answers=ANSWERS[kind],
        server=_SERVERS.get(kind, ""),
        elsewhere=_ELSEWHERE.get(kind),
        **state,
    )


@contextlib.asynccontextmanager
async def running_kind(kind: str, *models: str, port: int = 0, **state: Any) -> AsyncIterator[FakeBackend]:
    """A server in this process; ``state`` is the voice's."""
    backend = FakeBackend(voice=voice_of(kind, *models, **state))
    await backend.start(port=port)
    try:
        yield backend
    finally:
        await backend.stop()


def main() -> None:
    parser = arguments("python -m tests.fakes.kinds", "A fake of one kind of inference server.")
    parser.add_argument("--kind", choices=["ollama", *ANSWERS], required=True)
    parser.add_argument("--model", action="append", default=[], help="a model that it has; repeatable")
    options = parser.parse_args()
    serve(options, voice=voice_of(options.kind, *options.model))


if __name__ == "__main__":
    main()
