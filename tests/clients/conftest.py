"""One swarm for every client: A has no model, B has a vLLM and an Ollama. Clients know A alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.clients.servers import FakeServer
from tests.e2e.hosts import Host, Swarm, eventually

CHAT, EMBEDDER, THINKER = "qwen-chat", "bge-embed", "qwen3:8b"
NATIVE, NATIVE_EMBEDDER, SEER, CODER = "llama3.2:3b", "nomic-embed-text", "llava:7b", "qwen2.5-coder:7b"


@dataclass(frozen=True)
class World:
    """What tests talk to, and what they look at."""

    entry: Host
    """A: where clients point."""
    owner: Host
    """B: where the models are."""
    vllm: FakeServer
    ollama: FakeServer

    @property
    def url(self) -> str:
        """Of the client listener."""
        return self.entry.url

    def server(self, model: str) -> FakeServer:
        """The one that has ``model``."""
        return self.vllm if model in {CHAT, EMBEDDER} else self.ollama


@pytest.fixture(scope="session")
def swarm_of_clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once: tests look only at what came since they began."""
    vllm = FakeServer("vllm", "--model", CHAT, "--model", EMBEDDER)
    ollama = FakeServer(
        "ollama",
        *("--model", f"{NATIVE},resident=8192,trained_context=8192"),
        *("--model", f"{NATIVE_EMBEDDER},capabilities=embedding"),
        *("--model", f"{SEER},capabilities=completion+vision"),
        *("--model", f"{THINKER},capabilities=completion+tools+thinking"),
        *("--model", f"{CODER},capabilities=completion+insert,resident=8192"),
        *("--can-pull", "tiny:1b"),
    )
    swarm = Swarm(tmp_path_factory.mktemp("clients"))
    try:
        a, b = swarm.pair("--backend", vllm.url, "--backend", ollama.url)
        eventually("A lists what B has", lambda: a.models() >= {CHAT, EMBEDDER, NATIVE}, within_s=60)
        yield World(a, b, vllm, ollama)
    finally:
        swarm.close()
        vllm.close()
        ollama.close()


@pytest.fixture
def world(swarm_of_clients: World) -> World:
    """The swarm, with servers that behave and have seen nothing."""
    swarm_of_clients.vllm.forget()
    swarm_of_clients.ollama.forget()
    return swarm_of_clients
