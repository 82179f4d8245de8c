"""Real llama.cpp engines on tiny real models, killed in every way there is."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.engines.process import GuardedProcess
from sidecar.engines.status import EngineState
from swarmplane import models
from swarmplane.errors import InvalidRequestError
from swarmplane.inventory import ModelState
from swarmplane.settings.schema import EngineSettings
from tests.fakes.engines import alive, gone, guard_of, supervised
from tests.fakes.places import FakePlaces

pytest.importorskip("xllamacpp", reason="the extra 'engine' is not installed")
pytestmark = pytest.mark.process

TRAINED, CHAIN = "tiny-trained-q8", "tiny-chain-q8"
QUESTION = {"messages": [{"role": "user", "content": "What does the lion eat?"}], "temperature": 0}
GOLDEN = (
    "Hello from the tiny swarm model. Each word here comes out of a real forward pass, layer by layer, and "
    "every machine that holds some blocks must answer before this sentence can end."
)
XLLAMACPP = EngineSettings(models=(TRAINED,), kind="xllamacpp", stop_timeout_s=5)
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the engine on Linux only")


async def test_two_models_are_served_each_by_its_own_engine(tmp_path: Path) -> None:
    settings = EngineSettings(models=(TRAINED, CHAIN), kind="xllamacpp", stop_timeout_s=5)
    async with supervised(tmp_path, settings) as running:
        first = running.registry.inventory()
        assert [backend.models[0].state for backend in first.backends] == [ModelState.LOADING] * 2
        assert not running.registry.targets
        pids = [(await running.ready(name)).pid for name in (TRAINED, CHAIN)]
        backend = next(one for one in running.registry.inventory().backends if one.name == TRAINED)
        spoken = {target.dialects for target in running.registry.targets.values()}
        assert spoken == {frozenset({"openai", "anthropic", "count_tokens", "responses"})}

        status, answer = await running.post("/v1/chat/completions", QUESTION, TRAINED)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "The lion eats meat.")
        status, answer = await running.post("/v1/chat/completions", QUESTION, CHAIN)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, GOLDEN)
        status, answer = await running.post("/v1/completions", {"prompt": "x", "max_tokens": 3}, CHAIN)
        assert (status, answer["usage"]["completion_tokens"]) == (200, 3)
        status, answer = await running.post("/v1/embeddings", {"input": ["one", "two"]}, TRAINED)
        assert (status, [len(entry["embedding"]) for entry in answer["data"]]) == (200, [128, 128])
        status, answer = await running.post("/v1/messages", {**QUESTION, "max_tokens": 64}, TRAINED)
        assert (status, answer["content"][0]["text"]) == (200, "The lion eats meat.")
        status, _ = await running.post("/v1/chat/completions", QUESTION, TRAINED, key=False)
        assert status == 401

    model = backend.models[0]
    assert (backend.kind, backend.slots, backend.healthy) == ("xllamacpp", 4, True)
    assert (model.state, model.context_length, model.quantization) == (ModelState.LOADED, 2048, "Q8_0")
    assert model.capabilities == ("chat", "completion", "embedding"), "its template has no place for tools"
    assert running.registry.inventory().backends == ()
    assert [one.state for one in running.supervisor.status()] == [EngineState.STOPPED] * 2
    assert not any(alive(pid) for pid in pids)


@posix_only
async def test_a_killed_engine_is_started_again(tmp_path: Path) -> None:
    async with supervised(tmp_path, XLLAMACPP) as running:
        killed = await running.ready()
        os.kill(killed.pid, signal.SIGKILL)
        await running.until(lambda: running.status().state is EngineState.BACKING_OFF)
        between = running.status()
        assert not running.registry.targets
        assert running.registry.inventory().backends[0].models[0].state is ModelState.LOADING

        again = await running.ready()
        _, answer = await running.post("/v1/chat/completions", QUESTION)

    assert (between.exit_code, between.restarts, between.eta_s, between.pid) == (-9, 1, 1.0, 0)
    assert "SIGKILL" in between.reason
    assert any("listening on" in line or "serving at" in line for line in between.last_lines)
    assert again.pid not in {0, killed.pid}
    assert answer["choices"][0]["message"]["content"] == "The lion eats meat."


@linux_only
async def test_an_engine_does_not_outlive_its_killed_guard(tmp_path: Path) -> None:
    async with supervised(tmp_path, XLLAMACPP) as running:
        pid = (await running.ready()).pid
        os.kill(guard_of(pid), signal.SIGKILL)
        await gone(pid)
        await running.until(lambda: running.status().state is EngineState.BACKING_OFF)
        assert "guard was killed" in running.status().reason
        assert (await running.ready()).pid != pid


@posix_only
async def test_an_engine_that_hangs_is_killed_when_it_should_stop(tmp_path: Path) -> None:
    settings = XLLAMACPP.model_copy(update={"stop_timeout_s": 1.0})
    async with supervised(tmp_path, settings) as running:
        pid = (await running.ready()).pid
        os.kill(pid, signal.SIGSTOP)

    assert not alive(pid)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.fakes.engine_host", str(tmp_path), TRAINED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _engine_of(host: subprocess.Popen[str]) -> int:
    assert host.stdout is not None
    for line in host.stdout:
        shown = json.loads(line) if line.startswith("{") else {}  # the log goes there too
        if shown.get("state") == "ready":
            pid: int = shown["pid"]
            return pid
    pytest.fail("the engine never became ready")


@posix_only
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_an_engine_is_gone_soon_after_its_sidecar_was_killed(
    host: subprocess.Popen[str], number: signal.Signals
) -> None:
    pid = _engine_of(host)
    guard = guard_of(pid)
    host.send_signal(number)
    host.wait(timeout=10)
    killed_s = time.monotonic()

    asyncio.run(gone(pid))
    asyncio.run(gone(guard))

    assert time.monotonic() - killed_s < 2.0  # measured: some 20 ms


async def test_a_corrupt_file_is_refused_and_tried_again_later(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(models.path(TRAINED).read_bytes()[:400_000])
    async with supervised(tmp_path, EngineSettings(models=(str(cut),))) as running:
        await running.until(lambda: running.status().state is EngineState.FAILED)
        status, backend = running.status(), running.registry.inventory().backends[0]

    assert status.reason == "cut.gguf: cut short: 400,000 of at least 715,008 bytes; fetch it again"
    assert (status.eta_s, status.restarts) == (30.0, 0)
    assert (backend.healthy, backend.reason) == (False, status.reason)
    assert [(model.model, model.state) for model in backend.models] == [("cut", ModelState.FAILED)]


async def test_weights_that_llama_cpp_refuses_end_in_a_back_off_with_its_words(tmp_path: Path) -> None:
    """The header is sound, but it names an architecture that nobody knows."""
    odd = tmp_path / "odd.gguf"
    content = models.path(TRAINED).read_bytes()
    odd.write_bytes(content.replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
                                    b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0lamma"))  # fmt: skip
    settings = XLLAMACPP.model_copy(update={"models": (str(odd),)})
    async with supervised(tmp_path, settings) as running:
        await running.until(lambda: running.status().state is EngineState.BACKING_OFF)
        status = running.status()

    assert status.exit_code not in {None, 0}
    assert status.last_lines
    assert "lamma" in (tmp_path / "engines" / "odd" / "engine.log").read_text()


async def test_a_model_that_does_not_fit_is_refused_with_the_figures(tmp_path: Path) -> None:
    async with supervised(tmp_path, XLLAMACPP, free=lambda: 50 * 1024 * 1024) as running:
        await running.until(lambda: running.status().state is EngineState.FAILED)
        reason = running.status().reason

    assert "not enough memory: it needs" in reason
    assert "context 8 MiB for 4 x 2,048 tokens" in reason
    assert "but 50 MiB is free" in reason


async def test_without_an_engine_the_reason_says_what_to_install(tmp_path: Path) -> None:
    async with supervised(tmp_path, EngineSettings(models=(CHAIN,)), places=FakePlaces()) as running:
        await running.until(lambda: running.status().state is EngineState.FAILED)
        assert "install the extra 'swarmplane[engine]'" in running.status().reason


async def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"a/m\.gguf and b/M\.gguf would both be called M"):
        async with supervised(tmp_path, EngineSettings(models=("a/m.gguf", "b/M.gguf"))):
            pass


async def _guarded(tmp_path: Path, program: str) -> tuple[GuardedProcess, Path]:
    log = tmp_path / "engine.log"
    process = await GuardedProcess.start(
        [sys.executable, "-c", program], env=dict(os.environ), folder=tmp_path, log=log
    )
    return process, log


async def test_a_guard_tells_the_exit_code_and_bounds_the_log(tmp_path: Path) -> None:
    program = (
        "import os\nfor n in range(120): os.write(1, b'x' * 65536)\nos.write(2, b'last words'); os._exit(7)"
    )
    process, log = await _guarded(tmp_path, program)
    async with asyncio.timeout(30):
        await process.follow(lambda: None)

    assert process.exit is not None
    assert process.exit.code == 7
    assert log.read_bytes().endswith(b"last words")
    older = log.with_name("engine.log.1")
    assert 0 < older.stat().st_size <= 4 * 1024 * 1024
    assert 0 < log.stat().st_size <= 4 * 1024 * 1024


@posix_only
async def test_a_guard_ends_what_the_engine_started_too(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\nsys.exit(0)"
    )
    process, log = await _guarded(tmp_path, program)
    async with asyncio.timeout(30):
        await process.follow(lambda: None)

    await gone(int(log.read_text()))


@posix_only
async def test_a_program_that_can_not_be_started_ends_with_its_reason(tmp_path: Path) -> None:
    process = await GuardedProcess.start(
        [str(tmp_path / "absent")], env=dict(os.environ), folder=tmp_path, log=tmp_path / "engine.log"
    )
    async with asyncio.timeout(30):
        await process.follow(lambda: None)

    assert process.exit is not None
    assert process.exit.code == 127
    assert "No such file" in (tmp_path / "engine.log").read_text()
