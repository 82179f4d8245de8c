"""Ollama's native API as its server (0.12) writes it, with models that are loaded, reloaded and pulled."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes import mind
from tests.fakes.openai_voice import OpenAIVoice
from tests.fakes.voices import Options, Said, whole

_RELOADING = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap")
"""Options that belong to the loaded model: one that changes loads it again."""


@dataclass(frozen=True)
class OllamaModel:
    """One model on disk, and as it is loaded."""

    name: str
    """With its tag."""
    family: str = "llama"
    parameters: str = "3.2B"
    quantization: str = "Q4_K_M"
    size: int = 2_019_393_189
    trained_context: int = 131_072
    capabilities: tuple[str, ...] = ("completion", "tools")
    num_ctx: int = 0
    """As its Modelfile sets it; 0: it does not."""
    resident: int = 0
    """Context it is loaded with; 0: it is not loaded."""
    runner: tuple[tuple[str, Any], ...] = ()
    expires_at: datetime | None = None
    """None, while it is loaded: never."""
    digest: str = ""

    @property
    def details(self) -> dict[str, Any]:
        """As listings have it."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameters,
            "quantization_level": self.quantization,
        }


def model(name: str, **facts: Any) -> OllamaModel:
    """A model; without a digest it gets one of its name and quantisation."""
    one = OllamaModel(tagged(name), **facts)
    words = f"{one.name.partition(':')[0]} {one.quantization} {one.parameters}"
    return one if one.digest else replace(one, digest=hashlib.sha256(words.encode()).hexdigest())


def tagged(name: str) -> str:
    """Ollama's full spelling."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


class RefusalError(Exception):
    """The server's own refusal."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class OllamaVoice:
    """State of one server."""

    models: dict[str, OllamaModel] = field(default_factory=dict)
    default_context: int = 4096
    load_s: float = 0.0
    """What loading a model takes."""
    pull_steps: int = 4
    pull_s: float = 0.0
    """What a pull takes; the model is there at its end."""
    arriving: dict[str, tuple[float, OllamaModel]] = field(default_factory=dict)
    """What is being pulled, with the moment from which it is there."""
    library: dict[str, OllamaModel] = field(default_factory=dict)
    """What can be pulled."""
    version: str = "0.12.6"
    loads: list[tuple[str, int]] = field(default_factory=list)
    """Each load: name and context."""
    reloads: list[tuple[str, int]] = field(default_factory=list)
    """Loads that threw away the same model with other options."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Paths and bodies of inference."""

    def report(self) -> dict[str, Any]:
        """For ``GET /fake``."""
        return {
            "models": list(self.models),
            "loads": self.loads,
            "reloads": self.reloads,
            "resident": {one.name: one.resident for one in self.models.values() if one.resident},
        }

    def failure(self, path: str, status: int) -> Said:
        """See ``Voice``."""
        if path.startswith("/v1/"):
            return OpenAIVoice().failure(path, status)
        return whole({"error": "llama runner process has terminated: fake failure"}, status)

    def answer(self, method: str, path: str, body: bytes, options: Options) -> Said:
        """See ``Voice``."""
        try:
            if method in {"GET", "HEAD"}:
                return self._get(path)
            return self._act(path, _document(body), options, method)
        except RefusalError as refusal:
            if path.startswith("/v1/"):
                error = {
                    "message": str(refusal),
                    "type": "invalid_request_error",
                    "param": None,
                    "code": None,
                }
                return whole({"error": error}, refusal.status)
            return whole({"error": str(refusal)}, refusal.status)

    def _get(self, path: str) -> Said:
        if path == "/":
            return Said((b"Ollama is running",), content_type="text/plain; charset=utf-8")
        if path == "/api/version":
            return whole({"version": self.version})
        if path == "/api/tags":
            self._arrive()
            return whole({"models": [_listed(one) for one in self.models.values()]})
        if path == "/api/ps":
            self._expire()
            return whole({"models": [_running(one) for one in self.models.values() if one.resident]})
        if path == "/v1/models":
            rows = [
                {"id": one, "object": "model", "created": 1_760_000_000, "owned_by": "library"}
                for one in self.models
            ]
            return whole({"object": "list", "data": rows})
        return Said((b"404 page not found",), status=404, content_type="text/plain")

    def _act(self, path: str, asked: dict[str, Any], options: Options, method: str) -> Said:
        act = {
            "/api/chat": self._chat,
            "/api/generate": self._generate,
            "/api/embed": self._embed,
            "/api/embeddings": self._embeddings,
        }.get(path)
        if act is not None:
            self.asked.append((path, asked))
            return act(asked, options)
        keep = {
            "/api/show": lambda asked: whole(_shown(self._found(asked))),
            "/api/pull": self._pull,
            "/api/push": self._push,
            "/api/create": self._create,
            "/api/copy": self._copy,
            "/api/delete": self._delete,
        }.get(path)
        if keep is not None and (method == "DELETE") == (path == "/api/delete"):
            return keep(asked)
        if path.startswith("/v1/"):
            return self._compatible(path, asked, options)
        return Said((b"404 page not found",), status=404, content_type="text/plain")

    # -- models -------------------------------------------------------------------------------------------

    def _found(self, asked: Mapping[str, Any], key: str = "model") -> OllamaModel:
        name = asked.get(key) or asked.get("name")
        if not isinstance(name, str) or not name:
            raise RefusalError(400, "model is required")
        full = tagged(name)
        self._arrive()
        for one in self.models.values():
            if one.name.casefold() == full.casefold():
                return one
        raise RefusalError(404, f"model '{name}' not found")

    def _able(self, asked: Mapping[str, Any], ability: str, words: str) -> OllamaModel:
        one = self._found(asked)
        if ability not in one.capabilities:
            raise RefusalError(400, f'"{one.name}" does not support {words}')
        return one

    def _expire(self) -> None:
        now = datetime.now(UTC)
        for one in list(self.models.values()):
            if one.resident and one.expires_at is not None and one.expires_at <= now:
                self.models[one.name] = replace(one, resident=0, runner=(), expires_at=None)

    def load(self, name: str, context: int, keep_s: float | None = 300.0) -> None:
        """Have it loaded, without counting: how a test begins."""
        one = self.models[tagged(name)]
        self.models[one.name] = replace(
            one, resident=context, runner=(("num_ctx", context),), expires_at=_until(keep_s)
        )

    def _loaded(self, one: OllamaModel, asked: Mapping[str, Any]) -> tuple[int, float]:
        """Load it as the request wants it: the context it has then, and what that took."""
        self._expire()
        one = self.models[one.name]
        given = asked.get("options")
        given = given if isinstance(given, dict) else {}
        context = int(given.get("num_ctx") or one.num_ctx or self.default_context)
        context = min(context, one.trained_context)
        wanted = tuple(
            (key, context if key == "num_ctx" else given[key])
            for key in _RELOADING
            if key == "num_ctx" or key in given
        )
        same = one.resident and one.runner == wanted
        if not same:
            self.loads.append((one.name, context))
            if one.resident:
                self.reloads.append((one.name, context))
        keep = _seconds(asked.get("keep_alive"))
        if keep == 0:
            self.models[one.name] = replace(one, resident=0, runner=(), expires_at=None)
        else:
            self.models[one.name] = replace(one, resident=context, runner=wanted, expires_at=_until(keep))
        return context, 0.0 if same else self.load_s

    # -- inference ----------------------------------------------------------------------------------------

    def _chat(self, asked: dict[str, Any], options: Options) -> Said:
        messages = asked.get("messages") or []
        if not messages:
            return self._only_load(asked, {"message": {"role": "assistant", "content": ""}})
        one = self._able(asked, "completion", "chat")
        if asked.get("tools") and "tools" not in one.capabilities:
            raise RefusalError(400, f"registry.ollama.ai/library/{one.name} does not support tools")
        _, delay_s = self._loaded(one, asked)
        reply = mind.think(_conversation(asked, messages, self._thinks(one, asked)))

        def said(more: Mapping[str, Any]) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": "", **more}}

        steps = [said({"thinking": piece}) for piece in reply.thinking]
        steps += [said({"content": piece}) for piece in reply.pieces]
        steps += [said({"tool_calls": [_call(n, call)]}) for n, call in enumerate(reply.calls)]
        all_of_it: dict[str, Any] = {"content": reply.text}
        if reply.thinking:
            all_of_it["thinking"] = "".join(reply.thinking)
        if reply.calls:
            all_of_it["tool_calls"] = [_call(n, call) for n, call in enumerate(reply.calls)]
        return self._said(asked, one, steps, said({}), said(all_of_it), reply, options, delay_s)

    def _generate(self, asked: dict[str, Any], options: Options) -> Said:
        prompt = str(asked.get("prompt") or "")
        if not prompt and not asked.get("images"):
            return self._only_load(asked, {"response": ""})
        one = self._able(asked, "completion", "generate")
        if asked.get("suffix") and "insert" not in one.capabilities:
            raise RefusalError(400, f"registry.ollama.ai/library/{one.name} does not support insert")
        if asked.get("raw") and (asked.get("system") or asked.get("template") or asked.get("context")):
            raise RefusalError(400, "raw mode does not support template, system, or context")
        _, delay_s = self._loaded(one, asked)
        message = {"role": "user", "content": prompt, "images": asked.get("images") or []}
        system = [{"role": "system", "content": asked["system"]}] if asked.get("system") else []
        thought = _conversation(asked, [*system, message], self._thinks(one, asked))
        reply = mind.think(replace(thought, suffix=str(asked.get("suffix") or "")))
        steps: list[dict[str, Any]] = [{"response": "", "thinking": piece} for piece in reply.thinking]
        steps += [{"response": piece} for piece in reply.pieces]
        context = {} if asked.get("raw") else {"context": [1, 2, 3]}
        whole_answer: dict[str, Any] = {"response": reply.text}
        if reply.thinking:
            whole_answer["thinking"] = "".join(reply.thinking)
        return self._said(
            asked, one, steps, {"response": ""}, whole_answer, reply, options, delay_s, more=context
        )

    def _only_load(self, asked: dict[str, Any], empty: dict[str, Any]) -> Said:
        one = self._found(asked)
        reason, delay_s = "unload", 0.0
        if _seconds(asked.get("keep_alive")) == 0:
            self.models[one.name] = replace(one, resident=0, runner=(), expires_at=None)
        else:
            reason, (_, delay_s) = "load", self._loaded(one, asked)
        line = {
            "model": asked["model"],
            "created_at": _stamp(),
            **empty,
            "done": True,
            "done_reason": reason,
        }
        return replace(whole(line), delay_s=delay_s, content_type="application/json; charset=utf-8")

    def _thinks(self, one: OllamaModel, asked: Mapping[str, Any]) -> bool:
        wanted = asked.get("think")
        if wanted and "thinking" not in one.capabilities:
            raise RefusalError(400, f'"{one.name}" does not support thinking')
        return wanted is not False and "thinking" in one.capabilities

    def _said(
        self,
        asked: Mapping[str, Any],
        one: OllamaModel,
        steps: Sequence[Mapping[str, Any]],
        last: Mapping[str, Any],
        complete: Mapping[str, Any],
        reply: mind.Reply,
        options: Options,
        delay_s: float,
        more: Mapping[str, Any] | None = None,
    ) -> Said:
        figures: dict[str, Any] = {
            "done": True,
            "done_reason": "length" if reply.finish == "length" else "stop",
            **(more or {}),
            "total_duration": 4_883_583_458,
            "load_duration": int(delay_s * 1e9) or 1_334_875,
        }
        if options.usage:
            figures |= {
                "prompt_eval_count": reply.prompt_tokens,
                "prompt_eval_duration": 342_546_000,
                "eval_count": reply.tokens,
                "eval_duration": 4_535_599_000,
            }
        head = {"model": asked.get("model", one.name), "created_at": _stamp()}
        if asked.get("stream") is False:
            return replace(whole({**head, **complete, **figures}), delay_s=delay_s)
        lines = [{**head, **step, "done": False} for step in steps]
        return Said(
            tuple(_line(line) for line in [*lines, {**head, **last, **figures}]),
            stream=True,
            content_type="application/x-ndjson",
            delay_s=delay_s,
            failure=_line({"error": "an error was encountered while running the model: fake failure"}),
            junk=b'{"model":"x","message":{"role":"assis\n',
            end=1,
        )

    def _embed(self, asked: dict[str, Any], options: Options) -> Said:
        one = self._found(asked)
        if not {"embedding", "completion"} & set(one.capabilities):
            raise RefusalError(400, f'"{one.name}" does not support embeddings')
        given = asked.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise RefusalError(400, "invalid input type")
        _, delay_s = self._loaded(one, asked)
        size = int(asked.get("dimensions") or 8)
        figures = {"prompt_eval_count": sum(len(t.split()) for t in texts)} if options.usage else {}
        answer = {
            "model": asked["model"],
            "embeddings": [mind.vector(t, size) for t in texts],
            "total_duration": 14_143_917,
            "load_duration": 1_019_500,
            **figures,
        }
        return replace(whole(answer), delay_s=delay_s)

    def _embeddings(self, asked: dict[str, Any], options: Options) -> Said:
        del options
        _, delay_s = self._loaded(self._found(asked), asked)
        return replace(whole({"embedding": mind.vector(str(asked.get("prompt") or ""))}), delay_s=delay_s)

    def _compatible(self, path: str, asked: dict[str, Any], options: Options) -> Said:
        """Its ``/v1``: it has no word for a context, so a model loaded with another is loaded anew."""
        one = self._found(asked)
        self.asked.append((path, asked))
        _, delay_s = self._loaded(one, {})
        voice = OpenAIVoice(models=(str(asked["model"]),), reasoning="reasoning")
        return replace(voice.answer("POST", path, json.dumps(asked).encode(), options), delay_s=delay_s)

    # -- mutations ----------------------------------------------------------------------------------------

    def _pull(self, asked: dict[str, Any]) -> Said:
        name = asked.get("model") or asked.get("name")
        if not isinstance(name, str) or not name:
            raise RefusalError(400, "model is required")
        full = tagged(name)
        lines: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        found = self.library.get(full) or self.models.get(full)
        if found is None:
            lines.append({"error": "pull model manifest: file does not exist"})
            if asked.get("stream") is False:
                raise RefusalError(500, "pull model manifest: file does not exist")
            return _progress(lines, end=0)
        layer = f"sha256:{found.digest}"
        for step in range(self.pull_steps + 1):
            done = {"completed": found.size * step // self.pull_steps} if step else {}
            lines.append(
                {"status": f"pulling {found.digest[:12]}", "digest": layer, "total": found.size, **done}
            )
        lines += [
            {"status": "verifying sha256 digest"},
            {"status": "writing manifest"},
            {"status": "success"},
        ]
        self.arriving[full] = (time.monotonic() + self.pull_s, replace(found, name=full, resident=0))
        self._arrive()
        if asked.get("stream") is False:
            return replace(whole({"status": "success"}), delay_s=self.pull_s)
        return replace(_progress(lines), interval_s=self.pull_s / len(lines))

    def _arrive(self) -> None:
        for name, (at_s, one) in list(self.arriving.items()):
            if time.monotonic() >= at_s:
                self.models[name] = one
                del self.arriving[name]

    def _push(self, asked: dict[str, Any]) -> Said:
        found = self._found(asked)
        if asked.get("stream") is False:
            return whole({"status": "success"})
        steps = ({"status": "retrieving manifest"}, {"status": "pushing", "digest": f"sha256:{found.digest}"})
        return _progress([*steps, {"status": "success"}])

    def _copy(self, asked: dict[str, Any]) -> Said:
        source = self._found(asked, "source")
        target = tagged(str(asked.get("destination", "")))
        self.models[target] = replace(source, name=target, resident=0)
        return Said()

    def _delete(self, asked: dict[str, Any]) -> Said:
        del self.models[self._found(asked).name]
        return Said()

    def _create(self, asked: dict[str, Any]) -> Said:
        source = self._found(asked, "from")
        name = asked.get("model") or asked.get("name")
        if not isinstance(name, str) or not name:
            raise RefusalError(400, "model is required")
        made = replace(source, name=tagged(name), resident=0)
        context = (asked.get("parameters") or {}).get("num_ctx")
        self.models[made.name] = replace(made, num_ctx=context) if context else made
        if asked.get("stream") is False:
            return whole({"status": "success"})
        words = (f"using existing layer sha256:{source.digest}", "writing manifest", "success")
        return _progress([{"status": word} for word in words])


def _progress(lines: Sequence[Mapping[str, Any]], end: int = 1) -> Said:
    return Said(
        tuple(_line(line) for line in lines),
        stream=True,
        content_type="application/x-ndjson",
        failure=_line({"error": "max retries exceeded: unexpected EOF"}),
        junk=b'{"status":"pul\n',
        end=end,
    )


def _document(body: bytes) -> dict[str, Any]:
    if not body:
        raise RefusalError(400, "missing request body")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise RefusalError(400, "invalid character 'x' looking for beginning of value") from error
    if not isinstance(document, dict):
        raise RefusalError(400, "json: cannot unmarshal array into Go value of type api.ChatRequest")
    return document


def _conversation(
    asked: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], thinks: bool
) -> mind.Asked:
    results = []
    for message in reversed(messages):
        if message.get("role") != "tool":
            break
        results.append(f"{message.get('tool_name') or ''}={message.get('content')}")
    spoken = [m for m in messages if m.get("role") in {"user", "assistant", "tool"} and m.get("content")]
    options = asked.get("options") if isinstance(asked.get("options"), dict) else {}
    assert isinstance(options, dict)
    stop = options.get("stop") or ()
    limit = options.get("num_predict")
    return mind.Asked(
        text=str(spoken[-1]["content"]) if spoken else "",
        system=" ".join(str(m["content"]) for m in messages if m.get("role") == "system"),
        words=sum(len(str(m.get("content") or "").split()) for m in messages),
        tools=tuple(_tools(asked)),
        results=tuple(reversed(results)),
        images=tuple(base64.b64decode(i) for m in messages[-1:] for i in m.get("images") or ()),
        schema=_schema(asked.get("format")),
        think=thinks,
        limit=limit if isinstance(limit, int) and limit >= 0 else None,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _schema(form: Any) -> Mapping[str, Any] | None:
    if form == "json":
        return {}
    if isinstance(form, dict):
        return form
    if form in {None, ""}:
        return None
    raise RefusalError(400, f'invalid format: "{form}"; expected "json" or a valid JSON Schema object')


def _tools(asked: Mapping[str, Any]) -> Iterator[mind.Tool]:
    for one in asked.get("tools") or ():
        function = one["function"]
        yield mind.Tool(function["name"], function.get("parameters") or {})


def _call(number: int, call: mind.Call) -> dict[str, Any]:
    function = {"index": number, "name": call.name, "arguments": call.arguments}
    return {"id": call.id, "function": function}


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _listed(one: OllamaModel) -> dict[str, Any]:
    return {
        "name": one.name,
        "model": one.name,
        "modified_at": "2025-10-03T23:34:03.409490317-07:00",
        "size": one.size,
        "digest": one.digest,
        "details": one.details,
    }


def _running(one: OllamaModel) -> dict[str, Any]:
    return {
        "name": one.name,
        "model": one.name,
        "size": one.size + one.resident * 114_688,
        "digest": one.digest,
        "details": one.details,
        "expires_at": (one.expires_at or datetime(2318, 1, 1, tzinfo=UTC)).isoformat(),
        "size_vram": one.size + one.resident * 114_688,
        "context_length": one.resident,
    }


def _shown(one: OllamaModel) -> dict[str, Any]:
    parameters = f"num_ctx                        {one.num_ctx}\n" if one.num_ctx else ""
    return {
        "license": "LICENSE",
        "modelfile": f'# Modelfile generated by "ollama show"\nFROM {one.name}\n',
        "parameters": parameters + 'stop                           "<|eot_id|>"',
        "template": "{{ .System }} {{ .Prompt }}",
        "details": one.details,
        "model_info": {
            "general.architecture": one.family,
            "general.file_type": 15,
            "general.parameter_count": 3_212_749_888,
            "general.quantization_version": 2,
            f"{one.family}.attention.head_count": 24,
            f"{one.family}.attention.head_count_kv": 8,
            f"{one.family}.block_count": 28,
            f"{one.family}.context_length": one.trained_context,
            f"{one.family}.embedding_length": 3072,
            "tokenizer.ggml.tokens": None,
        },
        "capabilities": list(one.capabilities),
        "modified_at": "2025-10-03T23:34:03.409490317-07:00",
    }


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _seconds(keep_alive: Any) -> float | None:
    """Seconds to keep a model; None: for ever."""
    if keep_alive is None:
        return 300.0
    if isinstance(keep_alive, str):
        number, unit = keep_alive.rstrip("smh"), keep_alive[-1:]
        value = float(number) * {"m": 60, "h": 3600}.get(unit, 1)
    else:
        value = float(keep_alive)
    return None if value < 0 else value


def _until(keep_s: float | None) -> datetime | None:
    # None is Ollama's "for ever".
    return None if keep_s is None else datetime.now(UTC) + timedelta(seconds=min(keep_s, 10 * 365 * 86400))
