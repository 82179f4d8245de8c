"""Waiting for an act that takes longer than a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cli.output import say

if TYPE_CHECKING:
    from cli.client.control import ControlClient
    from cli.client.documents import Document

_LOOK_S: Final = 0.3


async def waited(client: ControlClient, operation: Document) -> Document:
    """``operation`` at its end, done or not; how it goes is said on the way."""
    import asyncio

    told = ""
    while operation["state"] == "running":
        message = str(operation["message"])
        if message and message != told:
            say(message)
            told = message
        await asyncio.sleep(_LOOK_S)
        operation = await client.operation(str(operation["id"]))
    return operation
