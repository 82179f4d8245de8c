"""Cut the bytes of a stream into events or lines, wherever the network cut them."""

from __future__ import annotations

from typing import Final, Protocol

from sidecar.dialects.failures import broken

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one event or line."""


class Frames(Protocol):
    """Collects bytes and yields what is whole."""

    def push(self, data: bytes) -> list[bytes]:
        """What became whole by ``data``: contents of events, or lines; none is empty."""
        ...

    def rest(self) -> list[bytes]:
        """What stands at the end without its own end, once no more data comes."""
        ...


class _Rows:
    """Lines, without their ends. What is held is joined once, however many pieces a line comes in."""

    __slots__ = ("_held", "_size")

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0

    def _cut(self, data: bytes) -> list[bytes]:
        if data.find(b"\n") < 0:
            self._held.append(data)
            self._size += len(data)
            if self._size > MOST_BYTES:
                raise broken()
            return []
        rows = data.split(b"\n")
        if self._held:
            rows[0] = b"".join((*self._held, rows[0]))
            self._held.clear()
        last = rows.pop()
        self._size = len(last)
        if last:
            self._held.append(last)
        return rows

    def _remainder(self) -> bytes:
        held = b"".join(self._held)
        self._held.clear()
        return held


class Lines(_Rows):
    """Newline-delimited JSON."""

    __slots__ = ()

    def push(self, data: bytes) -> list[bytes]:
        """See :class:`Frames`."""
        if not self._held and data.find(b"\n") == len(data) - 1 > 0:
            return [data]  # one line, as nearly every chunk is
        return [line for line in self._cut(data) if line.strip()]

    def rest(self) -> list[bytes]:
        """See :class:`Frames`."""
        held = self._remainder()
        return [held] if held.strip() else []


class Events(_Rows):
    """Server-sent events: the data of each; comments, names and ids of events are passed over.

    Lines end with LF or CRLF. A line ``error: …``, which llama.cpp wrote for a time, is an error.
    """

    __slots__ = ("_content", "_content_size")

    def __init__(self) -> None:
        super().__init__()
        self._content: list[bytes] = []
        self._content_size = 0

    def push(self, data: bytes) -> list[bytes]:
        """See :class:`Frames`."""
        if not self._held and not self._content and data.startswith(b"data: "):
            end = data.find(b"\n")
            if end == len(data) - 2 > _BEGINS and data[-1] == _NEWLINE and data[end - 1] != _RETURN:
                return [data[_BEGINS:end]]  # one event, as nearly every chunk is
        found: list[bytes] = []
        for line in self._cut(data):
            self._take(line, found)
        return found

    def rest(self) -> list[bytes]:
        """See :class:`Frames`."""
        found: list[bytes] = []
        self._take(self._remainder(), found)
        self._take(b"", found)
        return found

    def _take(self, line: bytes, found: list[bytes]) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if not line:
            if self._content:
                found.append(b" ".join(self._content))  # in JSON as good as a line end
                self._content.clear()
                self._content_size = 0
        elif line.startswith(b"data:"):
            content = line[6:] if line.startswith(b"data: ") else line[5:]
            if content == b"[DONE]" and not self._content:
                found.append(content)  # the last word counts though its blank line never comes
            elif content:
                self._content.append(content)
                self._content_size += len(content)
                if self._content_size > MOST_BYTES:
                    raise broken()
        elif line.startswith(b"error:"):
            found.append(b'{"error":{}}')  # read like any other, once what stands before it was


_BEGINS: Final = len(b"data: ")
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D
