"""Every kind of server is told by what it answers, on any port, and tells its models and how busy it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin.backends import backend_items
from sidecar.backends import finder as finding
from sidecar.backends import poller as polling
from sidecar.backends.finder import Search
from sidecar.backends.places import ollama_url, places
from sidecar.backends.target import BackendSpec
from sidecar.core.identify import WELL_KNOWN
from swarmplane.errors import AlreadyExistsError
from swarmplane.inventory import ModelState
from tests.fakes.backend import FakeBackend
from tests.fakes.finders import finding_at, until
from tests.fakes.kinds import KINDS, running_kind, voice_of
from tests.fakes.model_server import ModelServer


def paths(server: FakeBackend) -> Counter[str]:
    return Counter(seen.target for seen in server.seen if seen.method == "GET")


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_is_found_by_what_it_answers(kind: str) -> None:
    """And no path is asked twice in a look, nor a node's key shown: there is none."""
    async with running_kind(kind, "m1", "m2") as server, finding_at(server.port) as (registry, _):
        (backend,) = registry.inventory().backends
        assert (backend.kind, backend.healthy, backend.name) == (kind, True, f"local-{server.port}")
        assert [model.model.removesuffix(":latest") for model in backend.models] == ["m1", "m2"]
        assert set(registry.targets) == {backend.name}
        assert set(paths(server).values()) == {1}
        (item,) = backend_items(registry)
        assert (item["state"], item["source"]) == ("ok", f"port {server.port}")


async def test_what_each_kind_tells() -> None:
    """Slots, load, context, quantisation, and which models are loaded."""
    told: dict[str, Any] = {}
    for kind in ("vllm", "sglang", "llama-server", "lm-studio", "omlx", "localai"):
        state: dict[str, Any] = {} if kind in {"vllm", "sglang", "llama-server"} else {"resident": {"m1"}}
        async with (
            running_kind(kind, "m1", "m2", context=8192, **state) as server,
            finding_at(server.port) as (registry, _),
        ):
            (item,) = backend_items(registry)
            told[kind] = (item["slots"], item["running"], item["waiting"], item["kv_used"])
            first, second = registry.inventory().backends[0].models
            states = (first.state, second.state)
            if kind in {"lm-studio", "omlx", "localai"}:
                assert states == (ModelState.LOADED, ModelState.COLD), kind
            assert first.context_length == (0 if kind == "localai" else 8192), kind
            if kind == "lm-studio":
                assert (first.quantization, first.format, second.context_length) == (
                    "Q4_K_M",
                    "gguf",
                    131_072,
                )
            if kind == "llama-server":
                assert (first.quantization, item["tokens_per_s"]) == ("Q8_0", 41.5)
    assert told == {
        "vllm": (None, 3, 2, 0.25),
        "sglang": (48, 4, 3, 0.74),
        "llama-server": (2, 2, 1, 0.125),
        "lm-studio": (None, None, None, None),
        "omlx": (None, None, None, None),
        "localai": (None, None, None, None),
    }


async def test_a_backend_has_so_many_models_at_most() -> None:
    """Kills: a cap of whatever comes first, one that stays for good, and one that nobody hears of."""
    names = [f"m{number:02}" for number in range(20)]
    async with (
        running_kind("lm-studio", *names, resident={"m19", "m18"}) as server,
        finding_at(server.port, most=4) as (registry, _),
    ):
        (backend,) = registry.inventory().backends
        assert [model.name for model in backend.models] == ["m18", "m19", "m00", "m01"]
        (item,) = backend_items(registry)
        words = "4 of its 20 models are offered: upstream.max_models"
        assert (item["state"], item["healthy"], item["reason"]) == ("ok", True, words)
        registry.limit_models(20)
        await until(lambda: len(registry.inventory().backends[0].models) == 20)
        assert registry.inventory().backends[0].reason == ""


async def test_no_more_models_of_ollamas_are_asked_about_than_are_offered() -> None:
    async with (
        running_kind("ollama", *(f"m{n}" for n in range(9))) as server,
        finding_at(server.port, most=3) as (registry, _),
    ):
        assert len(registry.inventory().backends[0].models) == 3
        assert sum(seen.target == "/api/show" for seen in server.seen) == 3


async def test_who_is_none_is_asked_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """An impostor at Ollama's own place, a node, a page: none is offered, none is hammered."""
    monkeypatch.setattr(finding, "SWEEP_S", 0.02)
    async with (
        running_kind("impostor") as impostor,
        ModelServer(["one"], node=True).listening() as node,
        ModelServer([], status=200, body=b"<html>").listening() as page,
        finding_at(impostor.port, node.port, page.port) as (registry, _),
    ):
        await until(lambda: impostor.seen and node.asked and page.asked)
        await asyncio.sleep(0.3)
        assert registry.inventory().backends == ()
        assert max(paths(impostor).values()) == 1
        assert node.asked == [WELL_KNOWN]
        assert set(Counter(page.asked).values()) == {1}


async def test_it_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what comes where something else was, and goes at once when a request fails."""
    monkeypatch.setattr(finding, "SWEEP_S", 0.02)
    monkeypatch.setattr(polling, "MISSING_S", 0.05)
    async with running_kind("impostor") as first:
        port = first.port
        async with finding_at(port) as (registry, _):
            assert registry.inventory().backends == ()
            await first.stop()
            async with running_kind("lm-studio", "m1", port=port):
                await until(lambda: registry.inventory().backends)
                (backend,) = registry.inventory().backends
                assert backend.kind == "lm-studio"
            registry.report_failure(backend.name)
            await until(lambda: not registry.inventory().backends)
            assert registry.targets == {}
            async with running_kind("sglang", "m2", port=port):
                await until(lambda: registry.inventory().backends)
                assert registry.inventory().backends[0].kind == "sglang"


async def test_another_server_at_its_place_is_known_at_the_next_look() -> None:
    async with running_kind("vllm", "m1") as server, finding_at(server.port) as (registry, _):
        (backend,) = registry.inventory().backends
        server.voice = voice_of("omlx", "m9")
        registry.report_failure(backend.name)
        await until(lambda: registry.inventory().backends[0].kind == "omlx")
        assert [model.name for model in registry.inventory().backends[0].models] == ["m9"]


async def test_one_that_wants_a_key_is_shown_and_takes_it_once_it_is_named(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("right\n")
    async with (
        ModelServer(["one"], key="right").listening() as server,
        finding_at(server.port) as (registry, _),
    ):
        (item,) = backend_items(registry)
        assert (item["state"], item["models"], item["healthy"]) == ("needs key", [], False)
        registry.add(BackendSpec.from_url(f"http://localhost:{server.port}", key_file=key))
        await until(lambda: registry.inventory().backends[0].healthy)
        (item,) = backend_items(registry)
        assert (item["state"], item["source"], item["key"]) == ("ok", "settings", True)


async def test_what_is_named_is_not_found_too() -> None:
    async with running_kind("omlx", "m1") as server, finding_at(environ={}) as (registry, finder):
        registry.add(BackendSpec.from_url(f"http://localhost:{server.port}", name="mine"))
        finder.adopt(Search(on=True, ports=(server.port,)))
        await finder.sweep()
        assert [poller.spec.name for poller in registry.pollers] == ["mine"]


async def test_the_search_is_changed_while_it_runs() -> None:
    async with running_kind("omlx", "m1") as server, finding_at(server.port) as (registry, finder):
        (backend,) = registry.inventory().backends
        finder.adopt(Search(on=True, ports=(server.port,), ignored=(backend.name,)))
        assert registry.inventory().backends == ()
        finder.adopt(Search(on=False, ports=(server.port,)))
        await finder.sweep()
        assert registry.inventory().backends == ()
        finder.adopt(Search(on=True, ports=(server.port,)))
        await finder.sweep()
        await until(lambda: registry.inventory().backends)


async def test_a_name_that_is_taken_stays_whose_it_is() -> None:
    async with running_kind("omlx", "m1") as server, finding_at() as (registry, finder):
        other = BackendSpec.from_url("http://127.0.0.1:1", name=f"local-{server.port}")
        registry.add(other)
        finder.adopt(Search(on=True, ports=(server.port,)))
        await finder.sweep()
        assert [poller.spec for poller in registry.pollers] == [other]
        with pytest.raises(AlreadyExistsError):
            registry.add(replace(other, port=2))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:11500", "http://127.0.0.1:11500"),
        (":11500", "http://127.0.0.1:11500"),
        ("[::]:11434", "http://[::1]:11434"),
        ("http://0.0.0.0", "http://127.0.0.1:80"),
        ("https://models.example", "https://models.example:443"),
        ("https://models.example:99999", "https://models.example:443"),
        ("box.local", "http://box.local:11434"),
        (" 'http://box:1/ollama/' ", "http://box:1/ollama"),
        ("[::1", ""),
    ],
)
def test_ollamas_variable_is_read_as_ollama_reads_it(text: str, url: str) -> None:
    assert ollama_url(text) == url


def test_places_of_the_environment_come_first_and_each_once() -> None:
    environ = {"OLLAMA_HOST": "0.0.0.0:11500", "VLLM_PORT": "8000", "SGLANG_PORT": "tcp://10.0.0.1:30000"}
    found = places(environ, (11434, 8000), own_ports={11400})
    assert [(one.port, one.found) for one in found] == [
        (11500, "OLLAMA_HOST"),
        (8000, "VLLM_PORT"),
        (11434, "port 11434"),
    ]


def test_our_own_listener_is_skipped_and_ollamas_usual_port_is_still_looked_at() -> None:
    for own in ("127.0.0.1:11400", "0.0.0.0:11400", "localhost:11400"):
        found = places({"OLLAMA_HOST": own}, (11434,), own_ports={11400})
        assert [one.port for one in found] == [11434]


def test_what_is_not_wanted_is_left_out() -> None:
    assert places({}, (8000, 8001), ignored=("local-8000", "127.0.0.1:8001")) == ()
    assert places({"OLLAMA_HOST": "[::1"}, ()) == ()
