"""Who a client is: of this host, or the holder of an API key; and what its key has left.

A key that is shown and in force binds whoever shows it. Any other value passes where none is needed.
It costs one look-up by its digest, which is taken once for all requests with the same head; where the swarm
has no keys, nothing is looked up.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from sidecar.core.allowance import Allowance, refilled, used, wait_s
from sidecar.core.backoff import retry_after_s
from sidecar.dataplane.headers import FORWARDED
from sidecar.dataplane.refusals import RefusedError
from sidecar.dataplane.request import Fault
from swarmplane.client_keys import ClientKey, key_digest
from swarmplane.errors import Code, SwarmError

if TYPE_CHECKING:
    from sidecar.dataplane.reader import RequestReader
    from sidecar.dataplane.reading import Framing
    from sidecar.dataplane.request import Head, Request
    from sidecar.dataplane.server import DataPlane
    from sidecar.routing.listing import ModelListing

NONE: Final = "none"
ALWAYS: Final = "always"
_OPEN: Final = frozenset({b"/", b"/healthz", b"/readyz", b"/.well-known/swarmplane"})
"""What tells nothing of models: it needs no key."""
_REMEMBERED: Final = 1024
_READ_BYTES: Final = 64 * 1024
"""A refused request's body up to this size is read, so that its connection lives."""
_MINUTE_S: Final = 60.0
_DAY_S: Final = 86_400.0
_MISSING: Final = (
    "an API key is required here: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`; "
    "whoever runs this swarm makes one with `swarmctl key create`"
)
_WRONG: Final = (
    "the API key is wrong, or was revoked; whoever runs this swarm makes one with `swarmctl key create`"
)
_ALONE: Final = (
    "this host has not heard of its control plane for so long that API keys it remembers hold no longer "
    "(client.offline_keys_s); whoever runs this swarm sees to it"
)
_OVER: Final = "the API key has expired; whoever runs this swarm makes one with `swarmctl key create`"


class _Account:
    """What the holder of one key uses at this host."""

    __slots__ = ("requests", "running", "tokens")

    def __init__(self) -> None:
        self.running = 0
        self.requests: Allowance | None = None
        self.tokens: Allowance | None = None


class Keyring:
    """Lives on the event loop; nothing here waits."""

    __slots__ = (
        "_accounts", "_auth", "_by_digest", "_heard_s", "_here", "_keys", "_loopback", "_nets", "_offline_s",
        "_plane", "required",
    )  # fmt: skip

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._accounts: dict[str, _Account] = {}
        self._keys: tuple[ClientKey, ...] = ()
        self._by_digest: dict[bytes, ClientKey] = {}
        self._heard_s = time.monotonic()
        self.adopt()

    def adopt(self) -> None:
        """Go by the plane's policy as it is now."""
        policy = self._plane.policy
        self._auth, self._offline_s = policy.auth, policy.offline_keys_s
        self.required = policy.auth != NONE
        """Whether anybody needs a key."""
        self._nets = tuple(map(ipaddress.ip_network, policy.trusted_nets))
        self._loopback = policy.loopback_is_local
        self._here: dict[str, bool] = {}

    @property
    def some(self) -> tuple[ClientKey, ...]:
        """All keys there are: programs show one to everybody, most swarms have none."""
        return self._plane.routes.view.table.keys

    def heard(self) -> None:
        """A control plane is connected: what it says of keys holds."""
        self._heard_s = time.monotonic()

    @property
    def _outdated(self) -> bool:
        return time.monotonic() - self._heard_s > self._offline_s

    # -- who ----------------------------------------------------------------------------------------------

    def is_here(self, client: str) -> bool:
        """Whether the address ``client`` is this host's, or in a network that counts as this host."""
        here = self._here.get(client)
        if here is None:
            if len(self._here) >= _REMEMBERED:
                self._here.clear()
            here = self._here[client] = self._looks_local(client)
        return here

    def _looks_local(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return (self._loopback and address.is_loopback) or any(address in net for net in self._nets)

    def asks_here(self, head: Head, client: str) -> bool:
        """Whether a program of this host asks, and not for another one."""
        return self.is_here(client) and head.options.keys().isdisjoint(FORWARDED)

    def holder(self, head: Head) -> ClientKey | None:
        """The key that ``head`` shows, if it is known and in force."""
        key = self._find(head)
        return None if key is None or key.expired(time.time()) or self._outdated else key

    def _find(self, head: Head) -> ClientKey | None:
        keys = self._plane.routes.view.table.keys
        if keys is not self._keys:
            self._keys, self._by_digest = keys, {key.digest: key for key in keys}
            known = {key.id for key in keys}
            self._accounts = {name: one for name, one in self._accounts.items() if name in known}
        for digest in _digests(head) if keys else ():
            found = self._by_digest.get(digest)
            if found is not None:
                return found
        return None

    # -- whether ------------------------------------------------------------------------------------------

    def admits(self, connection: RequestReader, request: Request) -> bool:
        """Whether ``request`` may be served; its key is noted.

        Call it where keys are required, or one is shown.
        """
        head = request.head
        if connection.peer is not None:
            return True
        if head.credentials:
            request.key = self.holder(head)
        if request.key is not None or not self.required:
            return True
        if self._auth != ALWAYS and self.asks_here(head, connection.client):
            return True
        return head.path in _OPEN or _is_preflight(head)

    def fault(self, connection: RequestReader, request: Request, framing: Framing) -> Fault | None:
        """Why ``request``, of which the head was read, is refused; None: it is not."""
        if self.admits(connection, request):
            return None
        head = request.head
        sentence = _MISSING
        if head.credentials:
            sentence = _WRONG if self._find(head) is None else _ALONE if self._outdated else _OVER
        large = head.uploads or framing.chunked or framing.length > _READ_BYTES
        return Fault(Code.INVALID_API_KEY, sentence, close=large)

    def check_model(self, key: ClientKey, asked: str, *, new: bool = False) -> None:
        """That the holder of ``key`` may use what answers to ``asked``.

        A name that nobody knows is let through: that nobody knows it is a better answer. Not so where asking
        for it makes it (``new``), or has it pulled.

        Raises:
            SwarmError: It may not.
        """
        if not key.models:
            return
        view = self._plane.routes.view
        route = view.find(asked)
        if route is None and not (new or view.table.fallbacks.pulls(asked)):
            return
        if not key.permits(asked, route.name if route is not None else ""):
            raise SwarmError(f"this API key may not use the model {asked[:256]!r}", code=Code.FORBIDDEN)

    def shown(self, key: ClientKey | None, known: Sequence[ModelListing]) -> Sequence[ModelListing]:
        """Those of ``known`` that the holder of ``key`` may know of."""
        if key is None or not key.models:
            return known
        return [one for one in known if key.permits(one.name, *one.aliases)]

    # -- how much -----------------------------------------------------------------------------------------

    def spend(self, key: ClientKey) -> None:
        """Count one request of the holder of ``key``; :meth:`release` ends it.

        Raises:
            RefusedError: It has had as many as it may.
        """
        account = self._accounts.get(key.id)
        if account is None:
            account = self._accounts[key.id] = _Account()
        now_s = time.monotonic()
        if key.concurrency and account.running >= key.concurrency:
            raise self._spent(f"this API key may have {key.concurrency} requests at a time", 1.0)
        if key.tokens_per_day:
            account.tokens = refilled(account.tokens, key.tokens_per_day, _DAY_S, now_s)
            if account.tokens.left <= 0:
                left_s = wait_s(account.tokens, key.tokens_per_day, _DAY_S)
                raise self._spent(f"this API key may use {key.tokens_per_day} tokens a day", left_s)
        if key.requests_per_minute:
            has = refilled(account.requests, key.requests_per_minute, _MINUTE_S, now_s)
            left_s = wait_s(has, key.requests_per_minute, _MINUTE_S)
            if left_s > 0:
                raise self._spent(f"this API key may ask {key.requests_per_minute} times a minute", left_s)
            account.requests = used(has, 1.0)
        account.running += 1

    def _spent(self, sentence: str, left_s: float) -> RefusedError:
        retry = retry_after_s(left_s, self._plane.draw())
        return RefusedError(f"{sentence}; try again later", Code.RATE_LIMIT_EXCEEDED, retry_after=retry)

    def release(self, key: ClientKey) -> None:
        """A request that was counted is over."""
        account = self._accounts.get(key.id)
        if account is not None:
            account.running = max(account.running - 1, 0)

    def used_tokens(self, key_id: str, tokens: int) -> None:
        """An answer to the holder of the key called ``key_id`` cost so many tokens."""
        account = self._accounts.get(key_id)
        if account is not None and account.tokens is not None:
            account.tokens = used(account.tokens, tokens)


def _digests(head: Head) -> Iterable[bytes]:
    if head.credentials and not head.digests:
        head.digests = tuple(map(key_digest, head.credentials))
    return head.digests


def _is_preflight(head: Head) -> bool:
    return head.method == b"OPTIONS" and b"origin" in head.options
