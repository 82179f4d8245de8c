"""Which endpoint served a session last, and what of it runs where now."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from swarmplane.ids import EndpointId

TTL_S: Final = 300.0
MOST_SESSIONS: Final = 8192
_KEY_BYTES: Final = 12


def session_key(
    model: str, *, header: str = "", conversation: str = "", prompt_cache_key: str = "", user: str = ""
) -> bytes:
    """A short key for the session a request names, the most telling name first; empty where it names none.

    Sessions of different models and different kinds of names never meet. Costs 1.5 µs; what clients call
    their sessions is not kept.
    """
    for kind, name in ((b"h", header), (b"c", conversation), (b"p", prompt_cache_key), (b"u", user)):
        if name:
            text = name.encode(errors="surrogatepass")
            return blake2b(text, digest_size=_KEY_BYTES, key=_fold(model), person=kind).digest()
    return b""


def _fold(model: str) -> bytes:
    named = model.encode(errors="surrogatepass")
    return named if len(named) <= blake2b.MAX_KEY_SIZE else blake2b(named).digest()


class Session:
    """One session. ``running`` counts its requests by endpoint."""

    __slots__ = ("endpoint", "running", "until_s")

    def __init__(self) -> None:
        self.endpoint = EndpointId("")
        """Where its last request went."""
        self.until_s = 0.0
        """When that is forgotten."""
        self.running: dict[EndpointId, int] = {}


class Sessions:
    """Sessions by :func:`session_key`, bounded, least recently used out first. Each call costs under 1 µs."""

    __slots__ = ("_most", "_sessions", "_ttl_s")

    def __init__(self, *, ttl_s: float = TTL_S, most: int = MOST_SESSIONS) -> None:
        self._sessions: dict[bytes, Session] = {}
        self._ttl_s = ttl_s
        self._most = most

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, key: bytes, now_s: float) -> Session | None:
        """The session, if it is not over; one that runs is not, however long it takes."""
        session = self._sessions.get(key) if key else None
        if session is None or (now_s >= session.until_s and not session.running):
            return None
        return session

    def begin(self, key: bytes, endpoint: EndpointId, now_s: float) -> None:
        """A request of the session is sent to ``endpoint``; call :meth:`end` for it, however it ends."""
        if not key:
            return
        session = self._sessions.pop(key, None) or Session()
        self._sessions[key] = session
        session.endpoint = endpoint
        session.until_s = now_s + self._ttl_s
        session.running[endpoint] = session.running.get(endpoint, 0) + 1
        if len(self._sessions) > self._most:
            del self._sessions[next(iter(self._sessions))]

    def end(self, key: bytes, endpoint: EndpointId, now_s: float) -> None:
        """It is not with ``endpoint`` any more."""
        session = self._sessions.get(key)
        if session is None:
            return
        session.until_s = now_s + self._ttl_s
        left = session.running.get(endpoint, 0) - 1
        if left > 0:
            session.running[endpoint] = left
        else:
            session.running.pop(endpoint, None)

    def housekeep(self, now_s: float) -> None:
        """Forget those that are over; call every few seconds."""
        over = [k for k, s in self._sessions.items() if now_s >= s.until_s and not s.running]
        for key in over:
            del self._sessions[key]
