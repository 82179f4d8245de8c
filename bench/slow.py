"""A backend of slow streams: ``python bench/slow.py PORT EVENTS INTERVAL_S``. It prints its port.

Every stream has EVENTS events, one each INTERVAL_S; every other request is answered as by the mock.
"""

from __future__ import annotations

import asyncio
import sys

import backend

from swarmplane.open_files import raise_open_files

EVENTS, INTERVAL_S = 20, 0.5


class Slow(backend.Connection):
    """Streams that take their time."""

    def _answer(self, head: bytes, body: bytes) -> None:
        if b'"stream":true' not in body:
            super()._answer(head, body)
            return
        self.transport.write(backend.STREAM)
        self._stream(EVENTS)

    def _stream(self, left: int) -> None:
        if not self._open:
            return
        self.transport.write(backend.ONE if left else backend.LAST)
        if left:
            asyncio.get_running_loop().call_later(INTERVAL_S, self._stream, left - 1)


if __name__ == "__main__":
    EVENTS, INTERVAL_S = int(sys.argv[2]), float(sys.argv[3])
    raise_open_files()
    backend.run(backend.serve(int(sys.argv[1]), Slow))
