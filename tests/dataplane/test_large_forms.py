"""Forms too large to be looked into at once: the same answers, and the loop goes on meanwhile."""

from __future__ import annotations

import pytest

from sidecar.dataplane import multipart
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import Client, Node, Served, client, eventually, running_node

KIND = "multipart/form-data; boundary=xx"
NEARLY = b"\r\n--x\r\n--x"
MODEL = b'--xx\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n'


def form(*parts: bytes) -> bytes:
    file = b'--xx\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return file + NEARLY * 2_000 + b"\r\n" + b"".join(parts) + b"--xx--\r\n"


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sidecar.dataplane.multipart.STEP_BYTES", "sidecar.dataplane.looking.STEP_BYTES"):
        monkeypatch.setattr(name, 64)
    assert int(multipart.STEP_BYTES) == 64


async def ask(node: Node, body: bytes) -> int:
    async with client(node) as http:
        return (await http.ask(body, "/v1/audio/transcriptions", content_type=KIND)).status


async def test_the_model_is_found_behind_a_large_file(backend: FakeBackend) -> None:
    served = Served(backend, model="whisper.bin", canonical="whisper")
    body = form(MODEL)
    async with running_node(served={"one": served}) as node:
        assert await ask(node, body) == 200
        assert await ask(node, form(MODEL, MODEL)) == 400
        assert await ask(node, form()) == 400
        assert node.plane.buffered_bytes == 0
    assert [one.body for one in backend.asked] == [
        body.replace(b"\r\n\r\nwhisper\r\n", b"\r\n\r\nwhisper.bin\r\n")
    ]


async def test_a_client_that_leaves_meanwhile_is_forgotten(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: a request that goes on for nobody, a body that stays counted."""
    monkeypatch.setattr("sidecar.dataplane.multipart.STEP_BYTES", 8)
    body = form(MODEL) + b"x" * 200_000
    async with running_node(served={"one": Served(backend, model="whisper")}) as node:
        async with client(node) as http:
            http.post(body, "/v1/audio/transcriptions", content_type=KIND)
            await eventually(lambda: node.plane.buffered_bytes >= len(body))
        await eventually(lambda: node.plane.buffered_bytes == 0)
        assert node.plane.counters.cancelled == 1
    assert not backend.asked


async def test_others_are_served_meanwhile(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend, model="m1")}) as node, client(node) as slow:
        slow.post(form(MODEL), "/v1/audio/transcriptions", content_type=KIND)
        other: Client
        async with client(node) as other:
            assert (await other.ask({"model": "m1", "messages": []})).status == 200
        assert (await slow.answer()).status == 404
