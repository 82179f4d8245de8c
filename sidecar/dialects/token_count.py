"""How many LLM tokens a prompt has, estimated: backends have no common way to count them."""

from __future__ import annotations

from typing import Final

import msgspec

from sidecar.dialects import anthropic_request
from sidecar.dialects.chat import Chat

_BYTES_PER_TOKEN: Final = 4
"""Of text in UTF-8: English prose and code. Other scripts have more bytes in a character, and in a token."""
_PER_MESSAGE: Final = 4
_PER_IMAGE: Final = 1_600
"""What Anthropic charges for its largest picture."""


def count_tokens(body: bytes) -> bytes:
    """The answer to ``/v1/messages/count_tokens``; an estimate, a few per cent to a third off.

    Raises:
        InvalidRequestError: Something in the body is wrong.
    """
    return msgspec.json.encode({"input_tokens": estimate(anthropic_request.read(body, counts=True))})


def estimate(chat: Chat) -> int:
    """LLM tokens of all that goes to the model, at least 1."""
    found = 0
    for message in chat.messages:
        size = len(message.text.encode()) + len(message.thinking.encode())
        size += sum(len(call.name) + len(call.arguments.encode()) for call in message.calls)
        found += _PER_MESSAGE + -(-size // _BYTES_PER_TOKEN) + _PER_IMAGE * len(message.images)
    for tool in chat.tools:
        size = len(tool.name) + len((tool.description or "").encode()) + len(tool.parameters or b"")
        found += _PER_MESSAGE + -(-size // _BYTES_PER_TOKEN)
    return max(found, 1)
