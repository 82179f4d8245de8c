"""Texts to go on with: OpenAI's completions and Ollama's generate, read and written."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects import ollama_chat
from sidecar.dialects.chat import Chat, Completion, Image, Message
from sidecar.dialects.failures import refused
from sidecar.dialects.fields import Coded, Ignored, Refused, Surface, members_of, setting_fields, sort_out
from sidecar.dialects.ollama_chat import OPTION_NAMES, SHARED, media_type
from sidecar.dialects.openai_chat import read_with_usage
from sidecar.dialects.settings import FLAG, OLLAMA, OPENAI, TEXT, decoded, starts_text, write

_NO_SUCH: Final = "this model's backend can't do it"

COMPLETIONS: Final = Surface(
    OPENAI,
    {
        **{name: fate for name, fate in setting_fields(OPENAI).items() if name != "logprobs"},
        "model": Coded(ollama="model"),
        "prompt": Coded(ollama="prompt, with raw, as no template belongs to it; several prompts are refused"),
        "suffix": Coded(ollama="suffix, without raw: the model's template says how to fill the middle"),
        "stream": Coded(ollama="stream"),
        "stream_options": Coded(ollama="not sent; the stream ends with a chunk of counts if asked for"),
        "logprobs": Coded(ollama="logprobs, top_logprobs"),
        "keep_alive": Coded(ollama="keep_alive"),
        "n": Refused(_NO_SUCH, frozenset({b"1"})),
        "best_of": Refused(_NO_SUCH, frozenset({b"1"})),
        "echo": Refused(_NO_SUCH),
        "logit_bias": Refused(_NO_SUCH),
        "user": Ignored("names the caller"),
    },
    (OLLAMA,),
)

GENERATE: Final = Surface(
    OLLAMA,
    {
        **SHARED,
        "prompt": Coded(openai="messages, the user's; with raw or suffix: prompt of /v1/completions"),
        "system": Coded(openai="messages, the first one"),
        "images": Coded(openai="messages, the user's"),
        "raw": Coded(openai="true: /v1/completions"),
        "suffix": Coded(openai="suffix of /v1/completions"),
        "template": Refused("this model's backend takes no template with a request; send raw"),
        **dict.fromkeys(("width", "height", "steps"), Refused("this model's backend makes no pictures here")),
        "context": Refused("this model's backend keeps no context; send messages to /api/chat"),
    },
    (OPENAI,),
    OPTION_NAMES,
)

_PROMPTS: Final = msgspec.json.Decoder(list[str | int | list[int]])
_IMAGES: Final = msgspec.json.Decoder(list[str])
_COUNT: Final = msgspec.json.Decoder(int)


def read_completion(body: bytes) -> Completion:
    """A request to ``/v1/completions``.

    Raises:
        InvalidRequestError: Something in it is wrong or can't be put into any other dialect.
    """
    coded, settings = sort_out(members_of(body), COMPLETIONS.fields)
    if "logprobs" in coded:
        top = decoded(coded["logprobs"], _COUNT, "logprobs")
        settings |= {"logprobs": True, "top_logprobs": top}
    return Completion(
        prompt=_prompt(coded),
        settings=settings,
        stream="stream" in coded and decoded(coded["stream"], FLAG, "stream"),
        names=COMPLETIONS.names,
        suffix=decoded(coded["suffix"], TEXT, "suffix") if "suffix" in coded else "",
        with_usage=read_with_usage(coded),
        keep_alive=coded.get("keep_alive"),
    )


def _prompt(coded: dict[str, msgspec.Raw]) -> str:
    if "prompt" not in coded:
        raise refused("prompt", "is missing")
    raw = coded["prompt"]
    if bytes(raw) == b'""':
        raise refused("prompt", "is empty; this model's backend would say nothing")
    if starts_text(raw):
        return decoded(raw, TEXT, "prompt")
    prompts = decoded(raw, _PROMPTS, "prompt")
    if len(prompts) != 1 or not isinstance(prompts[0], str):
        raise refused("prompt", "this model's backend takes one prompt at a time, as text")
    return prompts[0]


def read_generate(body: bytes) -> Chat | Completion:
    """A request to ``/api/generate``: a conversation of one turn, unless it asks for the bare text.

    Raises:
        InvalidRequestError: Something in it is wrong or can't be put into any other dialect.
    """
    coded, settings = sort_out(members_of(body), GENERATE.fields)
    settings |= ollama_chat.read_options(coded)
    texts = {
        name: decoded(coded[name], TEXT, name) if name in coded else ""
        for name in ("prompt", "system", "suffix")
    }
    stream = ollama_chat.read_stream(coded)
    raw = "raw" in coded and decoded(coded["raw"], FLAG, "raw")
    images = decoded(coded["images"], _IMAGES, "images") if "images" in coded else []
    if raw or texts["suffix"]:
        for name in ("system", "images", "format", "think"):
            if name in coded and bytes(coded[name]) not in {b'""', b"[]", b"false"}:
                raise refused(name, "this model's backend takes none with raw or suffix")
        return Completion(texts["prompt"], settings, stream, GENERATE.names, texts["suffix"])
    if not texts["prompt"] and not images:
        return ollama_chat.load(coded, GENERATE)
    turns = [Message("system", (texts["system"],))] if texts["system"] else []
    pictures = tuple(Image(data, media_type(data)) for data in images)
    turns.append(Message("user", (texts["prompt"], *pictures)))
    return Chat(
        messages=tuple(turns),
        settings=settings,
        stream=stream,
        names=GENERATE.names,
        form=ollama_chat.read_form(coded),
        thinking=ollama_chat.read_think(coded),
    )


def write_generate(asked: Completion, model: str) -> bytes:
    """The body of a request to a backend's ``/api/generate``.

    Raises:
        InvalidRequestError: It asks for what Ollama can't do.
    """
    top, options = write(asked.settings, OLLAMA, asked.called)
    body: dict[str, object] = {"model": model, "prompt": asked.prompt, "stream": asked.stream, **top}
    if asked.suffix:
        body["suffix"] = asked.suffix
    else:
        body["raw"] = True
    if asked.keep_alive is not None:
        body["keep_alive"] = asked.keep_alive
    if options:
        body["options"] = options
    return msgspec.json.encode(body)


def write_completion(asked: Completion, model: str) -> bytes:
    """The body of a request to a backend's ``/v1/completions``."""
    settings = dict(asked.settings)
    with_logprobs, most = settings.pop("logprobs", False), settings.pop("top_logprobs", 0)
    top, _ = write(settings, OPENAI, asked.called)
    body: dict[str, object] = {"model": model, "prompt": asked.prompt, "stream": asked.stream, **top}
    if with_logprobs:
        body["logprobs"] = most
    if asked.suffix:
        body["suffix"] = asked.suffix
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)
