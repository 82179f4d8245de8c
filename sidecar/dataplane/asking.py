"""What choosing wants to know of a request, read from the spans that the peek found; nothing is decoded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec

from sidecar.core.context import Room
from sidecar.core.cost import Ask
from sidecar.core.prefix import BLOCK_BYTES, block_hashes, prompt_tokens
from sidecar.core.session import session_key
from sidecar.dataplane.peek import Body, Peek
from sidecar.dataplane.request import Head
from swarmplane.errors import InvalidRequestError

_PROMPT: Final = ("tools", "system", "messages")
"""What a prompt is made of, in the order in which caches see it (PROTOCOL section 8)."""
_OTHER_PROMPTS: Final = ("instructions", "prompt", "input")
_PARTS: Final = frozenset({*_PROMPT, *_OTHER_PROMPTS})
_SHORT: Final = BLOCK_BYTES - len(_PARTS)
"""Parts that are shorter together have no whole block."""
_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_ANSWER_ALONE: Final = frozenset(_LIMITS)
_SAYING_MORE: Final = frozenset({*_LIMITS, "conversation", "prompt_cache_key", "user", "options", "metadata"})
_DIGITS: Final = 9
_LONGEST_NAME: Final = 1024
_LONGEST_METADATA: Final = 4096
_LONGEST_BATCH: Final = 256
_MOST_PREFERRED: Final = 32
_NOWHERE: Final = (0, 0)


class _Options(msgspec.Struct, gc=False):
    """Of Ollama's requests."""

    num_predict: object = None


class _Metadata(msgspec.Struct, gc=False):
    """Of Anthropic's."""

    user_id: object = None


_options: Final = msgspec.json.Decoder(_Options).decode
_metadata: Final = msgspec.json.Decoder(_Metadata).decode


def read_ask(
    model: str, content: Peek, body: Body, session: str, key: bytes, room: Room | None = None
) -> Ask:
    """The request for ``model`` as choosing sees it. About 1.5 µs and 1.5 µs for each KB of prompt.

    Args:
        model: Canonical name.
        content: Of ``body``.
        body: As the client sent it.
        session: What the client's header calls it; empty: nothing.
        key: Of the hashes.
        room: What was read of it already: pictures are no text there.
    """
    members = content.members
    if members is None:
        return Ask(model, session=session_key(model, header=session))
    size = 0
    for name in _PARTS.intersection(members):
        size += len(members[name])
    short = size < _SHORT
    more = _SAYING_MORE.intersection(members)
    if short and not session and (not more or (room is None and more <= _ANSWER_ALONE)):
        return _short_ask(model, size, _limit(members) if more else 0)
    return Ask(
        model,
        prompt_tokens=room.prompt if room is not None and room.prompt else prompt_tokens(size),
        max_tokens=room.answer if room is not None else _limit(members),
        blocks=() if short else block_hashes(body, prompt_spans(content.spans), key),
        session=session_key(
            model,
            header=session,
            conversation=_name(members, "conversation"),
            prompt_cache_key=_name(members, "prompt_cache_key"),
            user=_name(members, "user") or _user_id(members),
        ),
    )


@functools.lru_cache(maxsize=4096)
def _short_ask(model: str, size: int, max_tokens: int) -> Ask:
    """Of a prompt without a whole block, where the body says nothing else: the same for many."""
    return Ask(model, prompt_tokens=prompt_tokens(size), max_tokens=max_tokens)


def prompt_spans(spans: Mapping[str, tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Where the parts of a prompt stand, in the order in which caches see them."""
    leading = [spans[name][1:] if name in spans else _NOWHERE for name in _PROMPT]
    return leading + [spans[name][1:] for name in _OTHER_PROMPTS if name in spans]


def _limit(members: Mapping[str, msgspec.Raw]) -> int:
    for name in _LIMITS:
        raw = members.get(name)
        if raw is not None:
            text = bytes(raw)
            return int(text) if text.isdigit() and len(text) <= _DIGITS else 0
    options = members.get("options")
    if options is None:
        return 0
    try:
        most = _options(options).num_predict
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
    return most if type(most) is int and 0 < most < 10**_DIGITS else 0


def _user_id(members: Mapping[str, msgspec.Raw]) -> str:
    """Whom Anthropic's clients name: coding agents name their session with it."""
    raw = members.get("metadata")
    if raw is None or len(raw) > _LONGEST_METADATA:
        return ""
    try:
        name = _metadata(raw).user_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return name if isinstance(name, str) and len(name) <= _LONGEST_NAME else ""


def _name(members: Mapping[str, msgspec.Raw], key: str) -> str:
    raw = members.get(key)
    if raw is None:
        return ""
    text = bytes(raw)
    # As it is written: the same name is written the same way by the same client.
    return text.decode("latin-1") if text not in {b"null", b'""'} and len(text) <= _LONGEST_NAME else ""


def by_policy(head: Head, ask: Ask) -> Ask:
    """``ask`` with its part of a batch, and the nodes that the client prefers.

    Raises:
        InvalidRequestError: It names a part that is no index.
    """
    shard = head.option(b"x-swarm-shard")
    if shard and not (shard.isascii() and shard.isdigit() and len(shard) <= _DIGITS):
        raise InvalidRequestError("x-swarm-shard must be the index of the request in its batch")
    prefer = head.option(b"x-swarm-prefer")
    return replace(
        ask,
        shard=int(shard) if shard else -1,
        batch=head.option(b"x-swarm-batch")[:_LONGEST_BATCH],
        preferred=tuple(node.strip() for node in prefer.split(",")[:_MOST_PREFERRED] if node.strip()),
    )
