"""Requests of other programs, as they were recorded, sent again."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.conftest import World

RECORDED = Path(__file__).with_name("recorded")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """Of an SSE stream, read; ``[DONE]`` is left out."""
        rows = [
            line.removeprefix("data: ") for line in self.body.decode().splitlines() if line[:6] == "data: "
        ]
        return [json.loads(row) for row in rows if row != "[DONE]"]

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


def replay(world: World, file: str, name: str, model: str) -> Answer:
    """The request ``name`` of ``recorded/<file>.json``, to ``model``, byte for byte but for its name."""
    recorded = json.loads((RECORDED / f"{file}.json").read_text(encoding="utf-8"))
    request = next(one for one in recorded if one["name"] == name)
    body = request["body"]
    if body is not None:
        body = {**body, ("name" if "name" in body else "model"): model}
    return ask(world, request["target"], body, request["headers"], method=request["method"])


def ask(
    world: World, target: str, body: Any, headers: Mapping[str, str] | None = None, *, method: str = "POST"
) -> Answer:
    """One request to the host that has no model."""
    connection = http.client.HTTPConnection("127.0.0.1", world.entry.ports["listen"], timeout=30)
    raw = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    connection.request(method, target, body=raw, headers=headers or {"content-type": "application/json"})
    answer = connection.getresponse()
    told = Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
    connection.close()
    return told
