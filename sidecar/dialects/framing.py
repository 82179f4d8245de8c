"""Cut the bytes of a stream into events or lines, wherever the network cut them."""

from __future__ import annotations

from typing import Final, Protocol

from sidecar.dialects.failures import broken, reported

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


class Lines:
    """Newline-delimited JSON."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def push(self, data: bytes) -> list[bytes]:
        """See :class:`Frames`."""
        if not self._held and data.find(b"\n") == len(data) - 1 > 0:
            return [data]  # one line, as nearly every chunk is
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        if len(self._held) > MOST_BYTES:
            raise broken()
        return [line for line in lines if line.strip()]

    def rest(self) -> list[bytes]:
        """See :class:`Frames`."""
        held, self._held = self._held, b""
        return [held] if held.strip() else []


class Events:
    """Server-sent events: the data of each; comments, names and ids of events are passed over.

    Lines end with LF or CRLF. A line ``error: …``, which llama.cpp wrote for a time, is an error.
    """

    __slots__ = ("_content", "_held", "_size")

    def __init__(self) -> None:
        self._held = b""
        self._content: list[bytes] = []
        self._size = 0

    def push(self, data: bytes) -> list[bytes]:
        """See :class:`Frames`."""
        if not self._held and not self._content and data.startswith(b"data: "):
            end = data.find(b"\n\n")
            if end == len(data) - 2 and data.find(b"\n") == end and data.find(b"\r") < 0:
                return [data[6:end]]  # one event, as nearly every chunk is
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        found: list[bytes] = []
        for line in lines:
            self._take(line, found)
        if len(self._held) + self._size > MOST_BYTES:
            raise broken()
        return found

    def rest(self) -> list[bytes]:
        """See :class:`Frames`."""
        found: list[bytes] = []
        held, self._held = self._held, b""
        if held:
            self._take(held, found)
        self._take(b"", found)
        return found

    def _take(self, line: bytes, found: list[bytes]) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if not line:
            if self._content:
                found.append(b" ".join(self._content))  # in JSON as good as a line end
                self._content.clear()
                self._size = 0
        elif line.startswith(b"data:"):
            content = line[6:] if line.startswith(b"data: ") else line[5:]
            if content == b"[DONE]" and not self._content:
                found.append(content)  # the last word counts though its blank line never comes
            elif content:
                self._content.append(content)
                self._size += len(content)
        elif line.startswith(b"error:"):
            raise reported()
