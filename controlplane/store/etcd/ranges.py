"""Lists, read in pages that a member can send and we can take in time."""

from __future__ import annotations

from typing import Final

from controlplane.store.etcd.calls import RANGE
from controlplane.store.etcd.client import Effect, EtcdClient
from controlplane.store.etcd.failures import Refusal, RefusedError
from controlplane.store.etcd.keyspace import Keyspace
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import KeyValue, Range, StoreUnavailableError

_FIRST_PAGE: Final = 256
_LARGEST_PAGE: Final = 8_192
_PAGE_BYTES: Final = 4 * 1024 * 1024
_RESTARTS: Final = 3


class Ranges:
    """Reads keys. A list of any length is one list: all its pages are of one revision."""

    def __init__(self, client: EtcdClient, keyspace: Keyspace) -> None:
        self._client = client
        self._keyspace = keyspace

    async def get(self, key: str) -> tuple[KeyValue | None, int]:
        """What stands at ``key``, and the revision at which that was read."""
        request = pb.RangeRequest(key=self._keyspace.key(key))
        answer = await self._client.ask(RANGE, request, Effect.READ, linear=True)
        found = next(iter(answer.kvs), None)
        return (self._keyspace.value(found) if found else None), answer.header.revision

    async def list_range(self, prefix: str, start_after: str, limit: int, revision: int) -> Range:
        """See :meth:`controlplane.store.port.Store.range`.

        Raises:
            RefusedError: ``revision`` is forgotten.
        """
        first, end = self._keyspace.bounds(prefix, start_after)
        for _ in range(_RESTARTS):
            try:
                return await self._pages(first, end, limit, revision)
            except RefusedError as error:
                # The caller asked for the present; what it was when we began is forgotten already.
                if revision or error.refusal is not Refusal.COMPACTED:
                    raise
        raise StoreUnavailableError("etcd forgets faster than a list can be read; compact it less often.")

    async def _pages(self, first: bytes, end: bytes, limit: int, revision: int) -> Range:
        items: list[KeyValue] = []
        page = _FIRST_PAGE
        while True:
            left = limit - len(items) if limit else page
            request = pb.RangeRequest(key=first, range_end=end, limit=min(page, left), revision=revision)
            try:
                answer = await self._client.ask(RANGE, request, Effect.READ, linear=True)
            except RefusedError as error:
                if error.refusal is not Refusal.ANSWER_TOO_LARGE or page == 1:
                    raise
                page = max(1, page // 8)
                continue
            revision = revision or answer.header.revision
            items += self._keyspace.values(answer.kvs)
            if not answer.more or len(items) == limit:
                return Range(tuple(items), revision, answer.more)
            first = answer.kvs[-1].key + b"\0"
            page = _next_page(answer)


def _next_page(answer: pb.RangeResponse) -> int:
    each = max(1, answer.ByteSize() // len(answer.kvs))
    return max(1, min(_PAGE_BYTES // each, _LARGEST_PAGE))
