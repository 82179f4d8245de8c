"""The models of the whole swarm, as each dialect lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from sidecar.core.residents import Resident
from sidecar.core.shown import Shown
from swarmplane.conditions import COLD, LOADED, Condition, EndpointCondition
from swarmplane.ids import BackendName, ModelName, endpoint_id
from swarmplane.inventory import ModelState
from swarmplane.routes import ModelRoute, Version
from swarmplane.traits import Traits
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import Client, Node, Served, TestSwarm, client, running_node

LLAMA = Traits(
    digest="sha256:" + "ab" * 32,
    family="llama",
    format="gguf",
    parameter_size="3.2B",
    quantization="Q4_K_M",
    size_bytes=2_000_000_000,
    capabilities=("chat", "completion", "tools", "insert"),
    trained_context=131_072,
    modified_s=1_759_314_600,
)
WEIGHTS = BackendName("weights")


class Swarm:
    """A entry without models; B with an Ollama model and one of a server that tells little."""

    def __init__(self, entry: Node, owner: Node, http: Client) -> None:
        self.entry, self.owner, self.http = entry, owner, http
        self.key = endpoint_id(owner.id, WEIGHTS, "llama:3b")

    def tell(self, warmth: str, resident: int = 0, expires_at_s: int = 0) -> None:
        one = EndpointCondition(
            self.key, warmth, resident_context=resident, expires_at_s=expires_at_s, vram_bytes=77
        )
        routes = self.entry.routes
        routes.set_condition(self.owner.id, Condition(endpoints=(one,)), self.entry.plane.clock_s() + 90)
        self.entry.plane.catalogue._since_s -= 10  # documents are a second old then

    async def listed(self, path: str) -> dict[str, dict[str, Any]]:
        document = (await self.http.get(path)).json
        return {one.get("id") or one["name"]: one for one in document.get("data") or document["models"]}


@pytest.fixture
async def two(swarm: TestSwarm, backend: FakeBackend) -> AsyncIterator[Swarm]:
    served = {
        "weights": Served(backend, model="llama:3b", kind="ollama", context=131_072, traits=LLAMA),
        "plain": Served(backend, model="org/plain", kind="vllm", context=8192),
    }
    async with (
        running_node("a", swarm=swarm) as entry,
        running_node("b", served, swarm=swarm) as owner,
        client(entry) as http,
    ):
        swarm.connect(aliases=[("gpt-4", "org/plain")])
        yield Swarm(entry, owner, http)


async def test_openai_lists_facts_of_other_nodes(two: Swarm) -> None:
    listed = await two.listed("/v1/models")
    assert listed["llama:3b"]["created"] == LLAMA.modified_s
    assert listed["llama:3b"]["swarm"] == {
        "nodes": ["b"],
        "loaded": True,
        "context_length": 131_072,
        "aliases": [],
        "capabilities": ["chat", "completion", "tools", "insert"],
        "digest": LLAMA.digest,
        "family": "llama",
        "parameter_size": "3.2B",
        "quantization": "Q4_K_M",
        "size_bytes": 2_000_000_000,
    }
    assert listed["org/plain"]["swarm"]["aliases"] == ["gpt-4"]
    two.tell(LOADED, 8192)
    assert (await two.listed("/v1/models"))["llama:3b"]["swarm"]["context_length"] == 8192
    two.tell(COLD)
    swarm = (await two.listed("/v1/models"))["llama:3b"]["swarm"]
    assert (swarm["loaded"], swarm["context_length"]) == (False, 131_072)


async def test_anthropic_lists_pages(two: Swarm) -> None:
    version = {"anthropic-version": "2023-06-01"}
    page = (await two.http.get("/v1/models", **version)).json
    assert [one["id"] for one in page["data"]] == ["llama:3b", "org/plain"]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "llama:3b", "org/plain")
    one = page["data"][0]
    assert (one["type"], one["display_name"], one["created_at"]) == (
        "model",
        "llama:3b",
        "2025-10-01T10:30:00Z",
    )
    first = (await two.http.get("/v1/models?limit=1", **version)).json
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (["llama:3b"], True)
    second = (await two.http.get("/v1/models?limit=1&after_id=llama:3b", **version)).json
    assert ([one["id"] for one in second["data"]], second["has_more"]) == (["org/plain"], False)
    back = (await two.http.get("/v1/models?limit=5&before_id=org/plain", **version)).json
    assert [one["id"] for one in back["data"]] == ["llama:3b"]
    for limit in ("0", "1001", "x", "-1", ""):
        answer = await two.http.get(f"/v1/models?limit={limit}", **version)
        assert answer.status == (200 if not limit else 400)
    assert (await two.http.get("/v1/models/gpt-4", **version)).json["id"] == "org/plain"
    assert (await two.http.get("/v1/models/nope", **version)).status == 404


def _nulls(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_nulls, value.values()))
    return value is None or (isinstance(value, list) and any(map(_nulls, value)))


async def test_ollama_lists_are_complete(two: Swarm) -> None:
    two.tell(LOADED, 8192, 1_759_314_660)
    tags = await two.listed("/api/tags")
    assert tags["llama:3b"] | {"swarm": 0} == {
        "name": "llama:3b",
        "model": "llama:3b",
        "modified_at": "2025-10-01T10:30:00Z",
        "size": 2_000_000_000,
        "digest": "ab" * 32,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "3.2B",
            "quantization_level": "Q4_K_M",
        },
        "swarm": 0,
    }
    assert len(tags["org/plain"]["digest"]) == 64
    running = await two.listed("/api/ps")
    one = running["llama:3b"]
    assert (one["context_length"], one["size_vram"], one["expires_at"]) == (8192, 77, "2025-10-01T10:31:00Z")
    assert running["org/plain"]["expires_at"].startswith("2318")
    for path in ("/api/tags", "/api/ps", "/v1/models"):
        assert not _nulls((await two.http.get(path)).json)
        assert (await two.http.get(path, "HEAD")).status == 200
    two.tell(COLD)
    assert set(await two.listed("/api/ps")) == {"org/plain"}


async def test_a_model_is_shown(two: Swarm) -> None:
    for asked in ({"model": "llama:3b"}, {"name": "llama:3b", "verbose": True}, {"model": "LLAMA:3B"}):
        shown = (await two.http.ask(asked, "/api/show")).json
        assert shown["capabilities"] == ["completion", "tools", "insert"]
        assert ".Suffix" in shown["template"]
        assert shown["model_info"]["llama.context_length"] == 131_072
        assert shown["details"]["quantization_level"] == "Q4_K_M"
        assert not _nulls(shown)
    plain = (await two.http.ask({"model": "gpt-4"}, "/api/show")).json
    assert plain["capabilities"] == ["completion"]
    assert plain["model_info"]["unknown.context_length"] == 8192
    assert not _nulls(plain)


SHOWN = Shown(
    template="{{ .System }} {{ .Prompt }}",
    parameters='num_ctx    8192\nstop    "<end>"',
    system="Be kind.",
    license="MIT",
    facts={"llama.block_count": 28, "llama.context_length": 131_072},
)
MODELFILE = """FROM llama:3b
TEMPLATE \"\"\"{{ .System }} {{ .Prompt }}\"\"\"
SYSTEM \"\"\"Be kind.\"\"\"
PARAMETER num_ctx    8192
PARAMETER stop    "<end>"
LICENSE \"\"\"MIT\"\"\"
"""


async def test_its_owner_knows_all_of_it(two: Swarm) -> None:
    """From whichever node, by whichever name; without the owner, what the table knows is told."""
    two.owner.backends.shows[(WEIGHTS, "llama:3b")] = SHOWN
    async with client(two.owner) as near:
        for http in (near, two.http):
            for asked in ({"model": "llama:3b"}, {"name": "LLAMA:3B", "verbose": True}):
                answer = await http.ask(asked, "/api/show")
                shown = answer.json
                assert (shown["template"], shown["system"]) == (SHOWN.template, SHOWN.system)
                assert (shown["parameters"], shown["license"]) == (SHOWN.parameters, SHOWN.license)
                assert shown["modelfile"] == MODELFILE
                assert shown["model_info"].items() >= SHOWN.facts.items()
                assert shown["capabilities"] == ["completion", "tools", "insert"]
                assert answer.headers.get("x-swarm-node") == ("b" if http is two.http else None)
    two.owner.plane.close()
    shown = (await two.http.ask({"model": "llama:3b"}, "/api/show")).json
    assert ".Suffix" in shown["template"]
    assert shown["capabilities"] == ["completion", "tools", "insert"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nope"}, 404),
        ({"model": 3}, 400),
        ({}, 400),
        ([], 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"", 400),
    ],
)
async def test_what_cannot_be_shown(two: Swarm, body: Any, status: int) -> None:
    answer = await two.http.ask(body, "/api/show")
    assert answer.status == status
    assert set(answer.json) == {"error"}
    assert (await two.http.get("/api/show")).status == 405
    assert (await two.http.ask({"model": "x"}, "/api/tags")).status == 405
    assert (await two.http.get("/api/tags")).status == 200


async def test_what_this_host_has_loaded_is_known_at_once(backend: FakeBackend) -> None:
    served = {"weights": Served(backend, model="m", kind="ollama", context=32_768, state=ModelState.LOADED)}
    async with running_node(served=served) as node, client(node) as http:
        node.backends.residents[(WEIGHTS, "m")] = Resident(4096, 0, 5)
        (one,) = (await http.get("/api/ps")).json["models"]
        assert (one["context_length"], one["size_vram"]) == (4096, 5)


async def test_a_document_is_made_once(two: Swarm) -> None:
    made = two.entry.plane.catalogue._made
    await two.http.get("/api/tags")
    first = made[b"/api/tags"]
    await two.http.get("/api/tags")
    assert made[b"/api/tags"] is first
    routes = two.entry.routes
    table = routes.view.table
    lost = ModelName("lost")
    routes.install(replace(table, version=Version(1, 99), models={**table.models, lost: ModelRoute(lost)}))
    assert (await two.listed("/api/tags"))["lost"]["swarm"]["nodes"] == []
