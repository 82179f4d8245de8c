"""The models of the whole swarm as one list, in each client's dialect.

Clients poll these lists: a document is made once for a picture of the routes, and again when it is a second
old, since how models are loaded is no part of that picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from sidecar.dataplane.answers import encode, unknown_model
from sidecar.dataplane.showing import shown_here
from sidecar.dialects import catalogue as documents
from sidecar.dialects.catalogue import UNSHOWN, Entry
from sidecar.routing.listing import ModelListing, listings
from swarmplane.errors import Code, InvalidRequestError, SwarmError
from swarmplane.ids import ModelName

if TYPE_CHECKING:
    from sidecar.core.candidate import Facts
    from sidecar.dataplane.request import Head, Request
    from sidecar.dataplane.server import DataPlane
    from sidecar.routing.view import View
    from swarmplane.client_keys import ClientKey
    from swarmplane.routes import Endpoint

MODELS: Final = b"/v1/models"
TAGS: Final = b"/api/tags"
PS: Final = b"/api/ps"
OLD_S: Final = 1.0
"""So long a document is given out again while the routes stay the same."""
PAGE: Final = 20
"""Models on a page of Anthropic's, unless the client says how many."""
MOST_PAGE: Final = 1000
_ANTHROPIC: Final = b"anthropic-version:"


class Catalogue:
    """Lives on the event loop; nothing here waits."""

    __slots__ = ("_entries", "_made", "_plane", "_since_s", "_view")

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._view: View | None = None
        self._since_s = 0.0
        self._entries: Sequence[Entry] | None = None
        self._made: dict[bytes, bytes] = {}

    def answer(self, request: Request) -> bytes:
        """The document of models that ``request`` asks for.

        Raises:
            SwarmError: There is no such model, or the query makes no sense.
        """
        head = request.head
        path = head.path.rstrip(b"/")
        if path == MODELS:
            if _is_anthropic(head):
                return self._page(head, request.key)
            return self._list(path, documents.openai_models, request.key)
        if path.startswith(MODELS + b"/"):
            asked = unquote(path[len(MODELS) + 1 :].decode("latin-1"))
            write = documents.anthropic_model if _is_anthropic(head) else documents.openai_model
            return encode(write(self._find(asked, request.key)))
        write_all = documents.ollama_ps if path == PS else documents.ollama_tags
        return self._list(path, write_all, request.key)

    def show(self, request: Request) -> bytes:
        """``POST /api/show``.

        Raises:
            SwarmError: The body names no model, or one that nobody knows.
        """
        entry = self._find(self.named(request), request.key)
        shown = shown_here(self._plane, self._plane.routes.view.models[ModelName(entry.name)])
        return encode(documents.ollama_show(entry, shown or UNSHOWN))

    def named(self, request: Request) -> str:
        """The model that the body of ``request`` names, as old and new clients do.

        Raises:
            InvalidRequestError: It names none.
        """
        return _named(request)

    def _list(
        self, path: bytes, write: Callable[[Sequence[Entry]], dict[str, Any]], key: ClientKey | None
    ) -> bytes:
        entries = self._known()
        if key is not None and key.models:
            return encode(write(_shown(entries, key)))
        made = self._made.get(path)
        if made is None:
            made = self._made[path] = encode(write(entries))
        return made

    def _page(self, head: Head, key: ClientKey | None) -> bytes:
        query = parse_qs(head.target.partition(b"?")[2].decode("latin-1"))
        limit = query.get("limit", [str(PAGE)])[-1]
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_PAGE):
            raise InvalidRequestError(f"limit must be a number from 1 to {MOST_PAGE}", param="limit")
        page = documents.anthropic_page(
            _shown(self._known(), key),
            limit=int(limit),
            after=query.get("after_id", [""])[-1],
            before=query.get("before_id", [""])[-1],
        )
        return encode(page)

    def _find(self, asked: str, key: ClientKey | None) -> Entry:
        entries = self._known()
        route = self._plane.routes.view.find(asked)
        found = next((entry for entry in entries if route is not None and entry.name == route.name), None)
        if found is not None and key is not None and not key.permits(found.name, asked):
            raise SwarmError(f"this API key may not use the model {asked[:256]!r}", code=Code.FORBIDDEN)
        if found is None:
            names = [entry.name for entry in _shown(entries, key)]
            raise SwarmError(unknown_model(asked, names), code=Code.MODEL_NOT_FOUND)
        return found

    def _known(self) -> Sequence[Entry]:
        plane = self._plane
        view, now_s = plane.routes.view, plane.clock_s()
        if self._entries is None or view is not self._view or now_s - self._since_s >= OLD_S:
            self._view, self._since_s = view, now_s
            self._made.clear()
            born_s = int(plane.born_s)
            self._entries = [_entry(model, born_s) for model in listings(view, self._facts)]
        return self._entries

    def _facts(self, endpoint: Endpoint) -> Facts:
        """Of our own servers we know more than we last told."""
        facts = self._plane.routes.facts_of(endpoint)
        if endpoint.node != self._plane.routes.node_id:
            return facts
        return replace(facts, resident=self._plane.backends.resident(endpoint.backend, endpoint.model))


def _shown(entries: Sequence[Entry], key: ClientKey | None) -> Sequence[Entry]:
    """Those that the holder of ``key`` may know of."""
    if key is None or not key.models:
        return entries
    return [entry for entry in entries if key.permits(entry.name, *entry.aliases)]


def _entry(model: ModelListing, born_s: int) -> Entry:
    resident, traits = model.resident, model.traits
    return Entry(
        model.name,
        model.nodes,
        model.loaded,
        model.context_length,
        model.aliases,
        traits,
        traits.modified_s or born_s,
        # A server that does not say where its model is has it where it runs fastest.
        traits.size_bytes if resident is None else resident.vram_bytes,
        0 if resident is None else resident.expires_at_s,
    )


def _is_anthropic(head: Head) -> bool:
    return any(line.lower().startswith(_ANTHROPIC) for line in head.forward)


class _Named(msgspec.Struct):
    model: str = ""
    name: str = ""
    """As old clients call it."""


def _named(request: Request) -> str:
    try:
        found = _read_named(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError("the body must be a JSON object that names a model") from error
    if not (found.model or found.name):
        raise InvalidRequestError("model is required", param="model")
    return found.model or found.name


_read_named: Final = msgspec.json.Decoder(_Named).decode
