"""One question over the OpenAI API, its answer as it streams. No client library, no proxies."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from swarmplane.errors import FailedPreconditionError, UnavailableError

_TIMEOUT_S: Final = 60.0
_DATA: Final = b"data:"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    text: str
    node: str
    """Name of the node that served it."""
    backend: str
    model: str


def ask(client_url: str, model: str, question: str, on_text: Callable[[str], None]) -> Answer:
    """Ask ``model`` at ``client_url`` and hand on the answer piece by piece. It blocks.

    Raises:
        UnavailableError: Nobody answers.
        FailedPreconditionError: The answer is an error.
    """
    parts = urllib.parse.urlsplit(client_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT_S)
    body = {
        "model": model,
        "stream": True,
        "temperature": 0,
        "messages": [{"role": "user", "content": question}],
    }
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            body=json.dumps(body),
            headers={"content-type": "application/json"},
        )
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise FailedPreconditionError(f"status {answer.status}: {_message(answer.read())}")
        pieces = []
        for line in answer:
            piece = _piece(line)
            if piece:
                pieces.append(piece)
                on_text(piece)
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{client_url} does not answer: {error}") from error
    finally:
        connection.close()
    header = answer.headers
    return Answer(
        "".join(pieces),
        header.get("x-swarm-node", ""),
        header.get("x-swarm-backend", ""),
        header.get("x-swarm-model", ""),
    )


def _piece(line: bytes) -> str:
    if not line.startswith(_DATA):
        return ""
    content = line[len(_DATA) :].strip()
    if content == b"[DONE]":
        return ""
    event = json.loads(content)
    if "error" in event:
        raise FailedPreconditionError(f"the answer ended with an error: {event['error'].get('message', '')}")
    return "".join(choice.get("delta", {}).get("content") or "" for choice in event.get("choices", ()))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
