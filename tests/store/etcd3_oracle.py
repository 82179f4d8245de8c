"""PyPI's etcd3 in a process of its own: an opinion about etcd that shares no code with ours.

It runs with protobuf's pure Python, which slows a whole process down: etcd3 0.12 runs on protobuf 4 and newer
in no other way. Requests come as lines of JSON and are answered in their order; bytes are text in Latin-1.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import etcd3


class Oracle:
    """Each method is a request."""

    def __init__(self, host: str, port: int) -> None:
        self._client = etcd3.client(host=host, port=port, timeout=10)
        self._watches: dict[int, tuple[Any, Any]] = {}
        self._locks: dict[str, Any] = {}

    def put(self, key: str, value: str, lease: int = 0) -> None:
        self._client.put(key, value.encode("latin-1"), lease=lease or None)

    def get(self, key: str) -> list[Any] | None:
        value, meta = self._client.get(key)
        if meta is None:
            return None
        return [value.decode("latin-1"), meta.create_revision, meta.mod_revision, meta.lease_id]

    def prefix(self, prefix: str) -> list[str]:
        found = self._client.get_prefix(prefix, sort_order="ascend")
        return [meta.key.decode() for _, meta in found]

    def delete(self, key: str) -> bool:
        return bool(self._client.delete(key))

    def swap(self, key: str, revision: int, value: str) -> bool:
        """Put if the key was last put at ``revision``; 0 for absent."""
        transactions = self._client.transactions
        succeeded, _ = self._client.transaction(
            compare=[transactions.mod(key) == revision],
            success=[transactions.put(key, value.encode("latin-1"))],
            failure=[],
        )
        return bool(succeeded)

    def watch(self, prefix: str, revision: int) -> int:
        events, cancel = self._client.watch_prefix(prefix, start_revision=revision)
        number = len(self._watches)
        self._watches[number] = (events, cancel)
        return number

    def events(self, number: int, count: int) -> list[list[Any]]:
        events, _ = self._watches[number]
        taken = []
        for _ in range(count):
            event = next(events)
            kind = "put" if isinstance(event, etcd3.events.PutEvent) else "delete"
            taken.append([kind, event.key.decode(), event.value.decode("latin-1"), event.mod_revision])
        return taken

    def lease(self, ttl_s: int) -> int:
        return int(self._client.lease(ttl_s).id)

    def renew(self, lease: int) -> int:
        (answer,) = self._client.refresh_lease(lease)
        return int(answer.TTL)

    def revoke(self, lease: int) -> None:
        self._client.revoke_lease(lease)

    def acquire(self, name: str, timeout_s: float) -> bool:
        lock = self._client.lock(name, ttl=30)
        try:
            taken = lock.acquire(timeout=timeout_s)
        except TypeError:
            # It found the lock taken, and cannot wait with any tenacity since 5.
            taken = False
        if taken:
            self._locks[name] = lock
        return bool(taken)

    def release(self, name: str) -> bool:
        return bool(self._locks.pop(name).release())


def main() -> None:
    oracle = Oracle(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(oracle, request["call"])(*request["with"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
