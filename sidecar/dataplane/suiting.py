"""Who suits a request: can do what it needs, and has a context that holds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from sidecar.core.candidate import Candidate
from sidecar.core.candidates import Candidates
from sidecar.core.capability import AUDIO, BY_PATH, CHAT, TOOLS, VISION, able, mismatch, missing
from sidecar.core.context import RELOADING, Protection, Room, bigger, holds, protection_of, too_long
from sidecar.core.limits import Limits
from sidecar.dataplane.contexts import Suit
from sidecar.dataplane.room import read_context, read_room
from sidecar.dataplane.showing import SHOW, telling
from swarmplane.errors import Code, InvalidRequestError, SwarmError
from swarmplane.ids import ModelName

if TYPE_CHECKING:
    from sidecar.dataplane.peek import Body, Peek
    from sidecar.dataplane.plan import Plan
    from sidecar.dataplane.request import Request
    from sidecar.dataplane.server import DataPlane
    from swarmplane.routes import Endpoint

_EMPTY: Final = frozenset({b"null", b"[]", b'""', b"{}"})
_MOST_DECODED_BYTES: Final = 8 * 1024 * 1024
_IMAGE_TYPES: Final = frozenset({"image_url", "image", "input_image"})
_AUDIO_TYPES: Final = frozenset({"input_audio", "audio"})
_SHOWN: Final = 256
_ANY_ROOM: Final = Room(0)


class _Part(msgspec.Struct):
    type: object = None
    content: object = None


class _Message(msgspec.Struct):
    content: object = None
    images: object = None
    type: object = None


_read_messages: Final = msgspec.json.Decoder(list[_Message]).decode


def suited(
    plane: DataPlane, request: Request, plan: Plan, candidates: Sequence[Candidate], limits: Limits
) -> Sequence[Candidate]:
    """Those of ``candidates``, whose ``limits`` are given, that suit the request. Sets :attr:`Plan.suit`.

    Raises:
        SwarmError: None of them does: it is too long for all, or needs what none can do.
    """
    content = plan.content
    members = content.members
    if members is None:
        return _able(plan, candidates, _needed(request.head.path, content, b""))
    body = request.body
    if limits.suit(request.head.path, members, body):
        return candidates
    path = request.head.path
    if path == SHOW:
        return telling(candidates) or candidates
    candidates = _able(plan, candidates, _needed(path, content, body))
    if path not in BY_PATH:
        return candidates
    route = plan.view.models.get(ModelName(plan.model))
    protection = protection_of(route.context if route is not None else "", plan.view.table.default_context)
    # Texts to embed are several, each with a context of its own.
    room = read_room(path, members) if BY_PATH[path] == CHAT else _ANY_ROOM
    plan.suit = suit = Suit(read_context(path, members), room, protection)
    if suit.asked and protection is not Protection.PASSTHROUGH:
        candidates = _upgraded(plane, candidates, suit.asked)
    return _roomy(plane, path, candidates, suit)


def limits_of(candidates: Sequence[Candidate]) -> Limits:
    """Of endpoints that are not of the view alone. O(candidates); none is made for it."""
    return Limits(_endpoints(candidates))


def _endpoints(candidates: Sequence[Candidate]) -> Iterable[Endpoint]:
    if isinstance(candidates, Candidates):
        return candidates.endpoints
    return [candidate.endpoint for candidate in candidates]


def _able(plan: Plan, candidates: Sequence[Candidate], needed: Sequence[str]) -> Sequence[Candidate]:
    endpoints = list(_endpoints(candidates))
    if all(able(endpoint, needed) for endpoint in endpoints):
        return candidates
    found = [one for one in candidates if able(one.endpoint, needed)]
    if not found:
        lacking = missing(endpoints, needed) or needed[-1]
        sentence = mismatch(plan.asked[:_SHOWN], lacking, plan.view.models.values(), needed)
        raise InvalidRequestError(sentence, param="model")
    return found


def _needed(path: bytes, content: Peek, body: Body) -> Sequence[str]:
    word = BY_PATH.get(path)
    if word is None:
        return ()
    needed, members = [word], content.members
    if word != CHAT or members is None:
        return needed
    tools = members.get("tools")
    if tools is not None and bytes(tools) not in _EMPTY:
        needed.append(TOOLS)
    return needed + _senses(members, body)


def _senses(members: dict[str, msgspec.Raw], body: Body) -> list[str]:
    """What the request needs besides text: seen by marks first, then by what they stand for."""
    if body.find(b'"image') < 0 and body.find(b'"input_') < 0 and body.find(b'"audio') < 0:
        return []
    found: list[str] = []
    images = members.get("images")
    if images is not None and bytes(images) not in _EMPTY:
        found.append(VISION)
    messages = members.get("messages", members.get("input"))
    if messages is None or len(messages) > _MOST_DECODED_BYTES:
        return found
    try:
        read = _read_messages(messages)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return found
    types = {part.get("type") for message in read for part in _parts(message.content)}
    types |= {message.type for message in read if isinstance(message.type, str)}
    if types & _IMAGE_TYPES or any(message.images for message in read):
        found.append(VISION)
    if types & _AUDIO_TYPES:
        found.append(AUDIO)
    return list(dict.fromkeys(found))


def _parts(content: object) -> list[dict[str, object]]:
    """Of a message's content, and of what tools gave back in it."""
    if not isinstance(content, list):
        return []
    there = [part for part in content if isinstance(part, dict) and isinstance(part.get("type"), str)]
    return there + [inner for part in there for inner in _parts(part.get("content"))]


def _resident(plane: DataPlane, candidate: Candidate) -> int:
    if candidate.local:
        return plane.contexts.resident(candidate.endpoint)
    found = plane.routes.facts_of(candidate.endpoint).resident
    return found.context if found is not None else 0


def _upgraded(plane: DataPlane, candidates: Sequence[Candidate], asked: int) -> Sequence[Candidate]:
    """Those that hold the context a request names without loading anything again, if there are any."""
    if all(candidate.endpoint.kind != RELOADING for candidate in candidates):
        return candidates
    places = [(one.endpoint, _resident(plane, one)) for one in candidates]
    held = {endpoint.id for endpoint in bigger(places, asked)}
    return [one for one in candidates if one.endpoint.id in held] if held else candidates


def _roomy(plane: DataPlane, path: bytes, candidates: Sequence[Candidate], suit: Suit) -> Sequence[Candidate]:
    room = suit.room
    contexts = [
        holds(
            one.endpoint,
            _resident(plane, one) if one.endpoint.kind == RELOADING else 0,
            suit.asked,
            suit.protection,
        )
        for one in candidates
    ]
    most = too_long(room, contexts)
    if most:
        raise SwarmError(too_long_sentence(path, room.needed, most), code=Code.CONTEXT_LENGTH_EXCEEDED)
    if all(not context or context >= room.needed for context in contexts):
        return candidates
    return [
        one
        for one, context in zip(candidates, contexts, strict=True)
        if not context or context >= room.needed
    ]


def too_long_sentence(path: bytes, needed: int, most: int) -> str:
    """In the words by which clients of the dialect know it, and shorten their conversation."""
    if path.startswith(b"/v1/messages"):
        return f"prompt is too long: {needed} tokens > {most} maximum"
    return (
        f"This model's maximum context length is {most} tokens. However, you requested {needed} tokens. "
        "Please reduce the length of the messages or completion."
    )
