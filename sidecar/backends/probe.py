"""Asking one backend what it is, how it is and which models it has."""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from dataclasses import dataclass, replace
from typing import Final

import aiohttp

from sidecar.backends.cloud import look_at_provider
from sidecar.backends.finding import Finding, Health
from sidecar.backends.listing import ListingError
from sidecar.backends.looks import look_at, refused
from sidecar.backends.ollama_probe import Shelf
from sidecar.backends.spoken import spoken
from sidecar.backends.target import BackendSpec, Target
from sidecar.core.identify import MODELS, WELL_KNOWN, Answer, Identity, Standing, identify
from swarmplane.errors import SwarmError
from swarmplane.providers import EMPTY_REQUEST, NEVER, PROVIDERS, Provider
from swarmplane.sealed_keys import read_key
from swarmplane.trusting import trust

CONNECT_S: Final = 2.0
ANSWER_S: Final = 5.0
_MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_OK: Final = 200
_ANYBODY: Final = Provider("", "")


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    server: str


class Prober:
    """Probes over one HTTP client, which ignores proxy variables and follows no redirects."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def probe(self, spec: BackendSpec, kind: str, shelf: Shelf) -> Finding:
        """Ask the backend; ``kind`` is what it was found to be before, empty the first time. Never raises.

        No path is asked twice. ``shelf`` keeps what need not be asked again.
        """
        if spec.use == NEVER:
            return Finding(Health.OFF, "it is never to be used (use = never)")
        try:
            headers = await asyncio.to_thread(_credentials, spec) if spec.key_file is not None else ()
        except SwarmError as error:
            return Finding(Health.NEEDS_KEY, error.message)
        except (OSError, ValueError):
            return Finding(Health.NEEDS_KEY, "its key file can't be read")
        return await self._look(spec, headers, kind, shelf)

    async def _look(
        self, spec: BackendSpec, headers: tuple[tuple[bytes, bytes], ...], kind: str, shelf: Shelf
    ) -> Finding:
        told = headers + PROVIDERS.get(spec.provider, _ANYBODY).defaults
        target = Target(spec.name, kind, spec.host, spec.port, spec.tls, spec.base_path, told)
        try:
            trusted = await asyncio.to_thread(trust, spec.ca_file) if spec.ca_file is not None else None
            probe = _Probe(self._session, target, trusted)
            looking = look_at_provider(spec, kind, probe.ask) if spec.provider else probe.look(kind, shelf)
            return replace(await looking, headers=headers)
        except ListingError as error:
            return Finding(Health.FAILING, str(error))
        except aiohttp.ClientConnectorCertificateError:
            return Finding(Health.UNREACHABLE, "its certificate is not trusted")
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError, OSError) as error:
            return _unreachable(error)
        except aiohttp.ClientError:
            return Finding(Health.FAILING, "it does not answer as an HTTP server does")


class _Probe:
    """One probe: what was asked is remembered."""

    def __init__(
        self, session: aiohttp.ClientSession, target: Target, trusted: ssl.SSLContext | None
    ) -> None:
        self._session = session
        self._target = target
        self._trusted: ssl.SSLContext | bool = trusted or True
        self._got: dict[str, _Reply] = {}

    async def look(self, kind: str, shelf: Shelf) -> Finding:
        if kind:
            finding = await look_at(kind, self.ask, shelf)
            if finding.kind or finding.health is not Health.OK:
                return finding
            # It lists as another kind does: something else listens there now.
        shelf.forget()
        found = await self._identify()
        if found.standing is Standing.NODE:
            return Finding(Health.NODE, "it is a Swarmplane node, not a backend; join its swarm instead")
        if found.standing is not Standing.BACKEND:
            return self._no_backend(found)
        finding = await look_at(found.kind, self.ask, shelf)
        if finding.health is not Health.OK:
            return finding
        return replace(finding, dialects=await spoken(found.kind, self._try))

    async def _identify(self) -> Identity:
        answers: dict[str, Answer] = {}
        while isinstance(found := identify(answers), str):
            try:
                reply = await self._fetch(found)
                answers[found] = Answer(reply.status, _document(reply.body), reply.server)
            except (ListingError, aiohttp.ClientError, OSError):
                if found in {WELL_KNOWN, MODELS}:
                    raise
                answers[found] = Answer()
        return found

    def _no_backend(self, found: Identity) -> Finding:
        """Why, by how it lists its models; what it is by the way it refuses."""
        listed = self._got[MODELS]
        if found.standing is Standing.STRANGER and listed.status == _OK:
            reason = "it lists no models as an inference server does"
            if _document(listed.body) is None:
                reason = "it answered something that is not JSON"
            return Finding(Health.STRANGER, reason)
        finding = refused(listed.status)
        return replace(finding, health=Health.STRANGER) if found.standing is Standing.STRANGER else finding

    async def ask(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body; with a ``body`` it is a POST."""
        reply = await self._fetch(path, body)
        return reply.status, reply.body

    async def _try(self, path: str, body: bytes) -> tuple[int, bytes]:
        """As :meth:`ask`; of one who does not answer the status is 0."""
        try:
            return await self.ask(path, body)
        except (ListingError, aiohttp.ClientError, OSError):
            return 0, b""

    async def _fetch(self, path: str, body: bytes = b"") -> _Reply:
        """With a ``body`` it is a POST."""
        if not body and path in self._got:
            return self._got[path]
        # Whoever listens there may be no backend of ours: it sees our key once it is none of a swarm's nodes.
        told = self._target.headers if path != WELL_KNOWN else ()
        headers = {name.decode(): value.decode() for name, value in told}
        if body:
            headers["content-type"] = "application/json"
        call = functools.partial(self._session.post, data=body) if body else self._session.get
        async with call(
            self._target.url + path, headers=headers, allow_redirects=False, ssl=self._trusted
        ) as answer:
            read = bytearray()
            if body == EMPTY_REQUEST and answer.status == _OK:
                # Its status says all that was asked; whoever takes anything may answer without end.
                return _Reply(_OK, b"", "")
            async for chunk in answer.content.iter_chunked(1 << 16):
                read += chunk
                if len(read) > _MAX_BODY_BYTES:
                    raise ListingError("its answer is too long")
            reply = _Reply(answer.status, bytes(read), answer.headers.get("server", ""))
        if not body:
            self._got[path] = reply
        return reply


async def told_at(session: aiohttp.ClientSession, url: str) -> object:
    """The JSON at ``url``, asked without a key; None where there is none."""
    try:
        async with session.get(url, allow_redirects=False) as answer:
            return _document(await answer.content.read(_MAX_BODY_BYTES)) if answer.status == _OK else None
    except (aiohttp.ClientError, OSError):
        return None


def client_session() -> aiohttp.ClientSession:
    """A client for :class:`Prober`; to be closed by the caller."""
    return aiohttp.ClientSession(
        # Probes are seconds apart: a kept connection would be closed by the server just when it is used.
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        timeout=aiohttp.ClientTimeout(total=CONNECT_S + ANSWER_S, sock_connect=CONNECT_S, sock_read=ANSWER_S),
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept": "application/json", "accept-encoding": "identity"},
    )


def _credentials(spec: BackendSpec) -> tuple[tuple[bytes, bytes], ...]:
    """Read the key anew each time, so that a rotated one is used without a restart. It blocks."""
    if spec.key_file is None:
        return ()
    key = read_key(spec.key_file, name=spec.name, url=spec.url)
    return PROVIDERS.get(spec.provider, _ANYBODY).credentials(key)


def _unreachable(error: Exception) -> Finding:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        # Or we are: a refusal is an answer, this is none. More than a few of them in a row tell.
        return Finding(Health.BUSY, "it takes no connection in time")
    if isinstance(error, TimeoutError):
        return Finding(Health.BUSY, "it does not answer in time")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        return Finding(Health.UNREACHABLE, "nothing listens there")
    if isinstance(cause, ssl.SSLError):
        return Finding(Health.UNREACHABLE, "TLS with it fails")
    return Finding(Health.UNREACHABLE, "it can't be reached")


def _document(body: bytes) -> object:
    """The JSON in ``body``; None: it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
