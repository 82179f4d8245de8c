"""A tool call that the client insists on, at a backend that can't insist: the form of the answer does it.

Ollama has no ``tool_choice``. But it holds an answer to a JSON schema, and the arguments of a call are JSON
that fits one: so the model is told of the tool, its answer is held to the tool's parameters, and what it says
is passed on as the call's arguments. Where there are several tools the schema has one branch for each.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects.answer import BackendReader, Delta, Ending, ToolDelta, Whole
from sidecar.dialects.chat import Chat, Tool, ToolCall
from sidecar.dialects.failures import BackendAnswerError, broken, refused

_ANY: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Named(msgspec.Struct):
    name: str
    arguments: msgspec.Raw


_NAMED: Final = msgspec.json.Decoder(_Named)


def forced_tools(chat: Chat) -> tuple[Tool, ...]:
    """The tools of which one has to be called; empty where the model is free.

    Raises:
        InvalidRequestError: There is no such tool.
    """
    if chat.choice.mode not in {"required", "tool"}:
        return ()
    name = chat.choice.name
    found = tuple(tool for tool in chat.tools if chat.choice.mode == "required" or tool.name == name)
    if not found:
        raise refused(chat.called("choice"), "names no tool of the request")
    if len(found) > 1 and any(b'"$ref"' in bytes(tool.parameters or b"") for tool in found):
        raise refused(
            chat.called("choice"),
            "this model's backend can't choose among tools whose schemas have $ref; name one",
        )
    return found


def schema_of(tools: tuple[Tool, ...]) -> msgspec.Raw:
    """What the answer is held to."""
    if len(tools) == 1:
        return tools[0].parameters or _ANY
    branches = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": tool.parameters or _ANY},
            "required": ["name", "arguments"],
        }
        for tool in tools
    ]
    return msgspec.Raw(msgspec.json.encode({"anyOf": branches}))


class ForcedCall:
    """See :class:`sidecar.dialects.answer.BackendReader`: hears the text of an answer as one call.

    A call that the backend made by itself is passed on as it is.
    """

    __slots__ = ("_begun", "_id", "_inner", "_name", "_pieces", "_spoken")

    def __init__(self, inner: BackendReader, tools: tuple[Tool, ...], answer_id: str) -> None:
        self._inner = inner
        self._name = tools[0].name if len(tools) == 1 else ""
        self._id = f"call_{answer_id}_0"
        self._pieces: list[str] = []
        self._begun = False
        """Whether some of the text went out as arguments."""
        self._spoken = False
        """Whether the backend made a call by itself."""

    @property
    def ending(self) -> Ending:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        return self._inner.ending

    @property
    def finished(self) -> bool:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        return self._inner.finished

    @property
    def closed(self) -> bool:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        return self._inner.closed

    def read(self, frame: bytes) -> Delta | None:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        delta = self._inner.read(frame)
        tools: list[ToolDelta] = []
        if delta is not None and delta.tools:
            if self._begun:
                raise broken()  # the client would join its arguments to those that went out
            self._spoken = True
            tools = delta.tools
        elif delta is not None and delta.text and not self._spoken:
            self._pieces.append(delta.text)
            if self._begun:
                tools.append(ToolDelta(0, "", "", delta.text))
            elif self._name and delta.text.strip():
                # Blanks alone may stand before a call of the backend's own.
                self._begun = True
                tools.append(ToolDelta(0, self._id, self._name, "".join(self._pieces)))
        if self._inner.closed:
            tools += self._last()
        thinking = delta.thinking if delta is not None else ""
        return Delta("", thinking, tools or None) if tools or thinking else None

    def whole(self, body: bytes) -> Whole:
        """See :class:`sidecar.dialects.answer.BackendReader`."""
        answer = self._inner.whole(body)
        if answer.calls:
            return Whole("", answer.ending, answer.thinking, answer.calls)
        self._pieces.append(answer.text)
        call = self._call()
        return Whole("", answer.ending, answer.thinking, (call,) if call else ())

    def _last(self) -> list[ToolDelta]:
        """What is still to say of the call at the end of the stream."""
        if self._spoken:
            return []
        call = self._call()
        return [ToolDelta(0, call.id, call.name, call.arguments)] if call and not self._name else []

    def _call(self) -> ToolCall | None:
        """The call; None where the answer's limit cut it off."""
        text = "".join(self._pieces)
        try:
            if self._name:
                _OBJECT.decode(text)
                call = ToolCall(self._id, self._name, text)
            else:
                named = _NAMED.decode(text)
                call = ToolCall(self._id, named.name, bytes(named.arguments).decode())
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            if self._inner.ending.finish == "length":
                return ToolCall(self._id, self._name, text) if self._name else None
            if not text.strip():
                raise BackendAnswerError("The model made no call, though it had to") from error
            raise broken() from error
        if self._inner.ending.finish == "stop":
            self._inner.ending.finish = "tool_calls"
        return call
