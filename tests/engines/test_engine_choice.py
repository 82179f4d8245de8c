"""Which program, which command line, which memory: pure."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.engines.command import Place, command_line, environment, shape_of
from sidecar.engines.memory import Estimate, Reservations, estimate, refusal
from sidecar.engines.programs import Program, find_program, read_flags
from sidecar.engines.references import Reference, resolve
from sidecar.engines.restarts import Record, describe_exit
from swarmplane import models
from swarmplane.errors import FailedPreconditionError, NotFoundError
from swarmplane.gguf import Facts, read_facts
from swarmplane.ids import BackendName
from swarmplane.settings.schema import EngineSettings
from tests.fakes.places import FakePlaces

GIB = 1024**3
SITE = Path("site-packages")
SUFFIX = ".exe" if sys.platform == "win32" else ""
BESIDE = SITE / "bin" / f"llama-server{SUFFIX}"
EVERYTHING = FakePlaces(
    path={"llama-server": Path("on-path")},
    packages={"llama_cpp": SITE, "xllamacpp": SITE},
    programs={Path("configured"), BESIDE},
)
NOT_ON_PATH = replace(EVERYTHING, path={})
NO_BINARY = FakePlaces(packages=EVERYTHING.packages)
NO_WHEEL = FakePlaces(packages={"llama_cpp": SITE})
LLAMA_3_8B = Facts(
    name="Llama 3",
    architecture="llama",
    quantization="Q4_K_M",
    parameters=8_030_261_248,
    weights_bytes=round(4.59 * GIB),
    context_length=131_072,
    embedding_length=4096,
    feed_forward_length=14_336,
    block_count=32,
    heads=(32,) * 32,
    kv_heads=(8,) * 32,
    key_length=128,
    value_length=128,
    vocabulary=128_256,
    has_chat_template=True,
    pooling="",
    embedding_only=False,
)
PLACE = Place(Path("m.gguf"), "m", 4711, Path("key"))
NEW = frozenset(
    {"--slots", "--offline", "--cache-ram", "--no-ui", "--no-webui", "--embeddings", "--pooling", "--fit",
     "--gpu-layers"}
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "binary", "places", "expected"),
    [
        pytest.param("auto", "configured", EVERYTHING, ("llama-server", "configured"), id="configured-first"),
        pytest.param("auto", None, EVERYTHING, ("llama-server", "on-path"), id="then-the-path"),
        pytest.param(
            "auto", None, replace(EVERYTHING, path={}), ("llama-server", str(BESIDE)), id="then-beside"
        ),
        pytest.param(
            "auto",
            None,
            FakePlaces(packages=EVERYTHING.packages),
            ("xllamacpp", sys.executable),
            id="then-the-wheel",
        ),
        pytest.param(
            "auto",
            None,
            FakePlaces(packages={"llama_cpp": SITE}),
            ("llama-cpp-python", sys.executable),
            id="last",
        ),
        pytest.param("xllamacpp", "configured", EVERYTHING, ("xllamacpp", sys.executable), id="as-asked"),
        pytest.param(
            "llama-cpp-python", None, EVERYTHING, ("llama-cpp-python", sys.executable), id="even-the-last"
        ),
    ],
)
def test_programs_are_looked_for_in_order(
    kind: str, binary: str | None, places: FakePlaces, expected: tuple[str, str]
) -> None:
    program = find_program(kind, None if binary is None else Path(binary), places)

    assert (program.kind, program.command[0]) == expected


@pytest.mark.parametrize(
    ("kind", "binary", "message"),
    [
        pytest.param("auto", None, "install the extra", id="nothing-installed"),
        pytest.param("llama-server", None, "no engine of kind llama-server", id="asked-for-one-kind"),
        pytest.param("auto", "typo", "engine.binary is typo", id="configured-but-absent"),
    ],
)
def test_a_missing_program_is_refused_with_what_to_do(kind: str, binary: str | None, message: str) -> None:
    with pytest.raises(FailedPreconditionError, match=message):
        find_program(kind, None if binary is None else Path(binary), FakePlaces())


def test_the_shape_follows_the_model_and_the_settings() -> None:
    default = EngineSettings()
    tiny = read_facts(models.path("tiny-chain-q8"))

    assert (shape_of(LLAMA_3_8B, default, 8).context, shape_of(LLAMA_3_8B, default, 8).threads) == (8192, 8)
    assert (shape_of(tiny, default, 8).context, shape_of(tiny, default, 8).threads) == (2048, 1)
    assert shape_of(tiny, EngineSettings(context_length=9999), 8).context == 2048
    assert shape_of(tiny, EngineSettings(threads=3), 8).threads == 3
    assert shape_of(replace(tiny, context_length=0), default, 8).context == 4096
    assert shape_of(tiny, default, 8, serial=True).slots == 1
    assert shape_of(replace(tiny, embedding_only=True), default, 8).ubatch == 2048
    assert not shape_of(replace(tiny, embedding_only=True), default, 8).mean_pooling


def test_a_new_llama_server_gets_what_it_knows() -> None:
    line = command_line(
        Program("llama-server", ("llama-server",), NEW), shape_of(LLAMA_3_8B, EngineSettings(), 8), PLACE
    )
    words = " ".join(line)

    assert line[0] == "llama-server"
    assert "--host 127.0.0.1 --port 4711" in words
    assert "--ctx-size 32768 --parallel 4" in words  # 8,192 for each slot
    assert "--embeddings --pooling mean" in words
    assert "--cache-ram 0" in words
    assert "--no-ui" in line
    assert "--no-webui" not in line
    assert "--gpu-layers" not in line


def test_an_old_llama_server_gets_no_option_it_would_stumble_over() -> None:
    old = Program(
        "llama-server", ("s",), frozenset({"--embeddings", "--pooling", "--gpu-layers", "--no-webui"})
    )
    chat = command_line(old, shape_of(LLAMA_3_8B, EngineSettings(), 8), PLACE)
    embedding = command_line(
        old, shape_of(replace(LLAMA_3_8B, embedding_only=True), EngineSettings(), 8), PLACE
    )

    assert not {"--embeddings", "--offline", "--cache-ram", "--no-ui"} & set(chat)
    assert "--no-webui" in chat
    assert chat[chat.index("--gpu-layers") + 1] == "999"
    assert "--embeddings" in embedding
    assert "--pooling" not in embedding


def test_layers_on_the_accelerator_can_be_set() -> None:
    shape = shape_of(LLAMA_3_8B, EngineSettings(gpu_layers=7), 8)
    line = command_line(Program("llama-server", ("s",), NEW), shape, PLACE)

    assert line[line.index("--gpu-layers") + 1] == "7"
    assert "--gpu-layers=7" in command_line(Program("xllamacpp", ("x",)), shape, PLACE)


def test_the_serial_server_is_kept_from_cutting_off_its_own_streams() -> None:
    line = command_line(
        Program("llama-cpp-python", ("p",)), shape_of(LLAMA_3_8B, EngineSettings(), 8, serial=True), PLACE
    )

    assert line[line.index("--interrupt_requests") + 1] == "false"
    assert line[line.index("--n_ctx") + 1] == "8192"


def test_options_are_read_from_the_help() -> None:
    text = "-fit,  --fit [on|off]   ... like --fit-target\n--ui, --no-ui, --no-webui  (env: X)\n---odd a--b"

    assert read_flags(text) == {"--fit", "--fit-target", "--ui", "--no-ui", "--no-webui"}


def test_the_environment_neither_changes_the_engine_nor_tells_it_our_secrets() -> None:
    inherited = {
        "PATH": "p",
        "LLAMA_ARG_PORT": "1",
        "llama_arg_host": "h",
        "SWARMPLANE_X": "s",
        "GGML_X": "k",
    }

    assert environment(inherited) == {
        "PATH": "p",
        "GGML_X": "k",
        "GGML_NO_BACKTRACE": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONUNBUFFERED": "1",
    }


def test_the_estimate_is_near_what_llama_cpp_allocates() -> None:
    """Measured: 4.59 GiB of weights, 4 GiB of cache at 32k tokens, 0.35 to 0.47 GiB of work space."""
    needed = estimate(LLAMA_3_8B, shape_of(LLAMA_3_8B, EngineSettings(), 8))

    assert needed.context == 4 * GIB
    assert 0.3 * GIB < needed.work < 0.55 * GIB
    assert needed.total == needed.weights + needed.context + needed.work


@pytest.mark.parametrize(
    ("free_gib", "message"),
    [
        pytest.param(12.0, "", id="fits"),
        pytest.param(9.5, "lower engine.context_length or engine.slots", id="headroom-is-missing"),
        pytest.param(6.0, "lower engine.context_length or engine.slots", id="context-is-too-long"),
        pytest.param(3.0, "take a smaller model", id="weights-alone-are-too-large"),
        pytest.param(-1.0, "but 0 MiB is free", id="all-promised-away"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_figures(free_gib: float, message: str) -> None:
    shape = shape_of(LLAMA_3_8B, EngineSettings(), 8)
    said = refusal(estimate(LLAMA_3_8B, shape), shape, round(free_gib * GIB), 0.1)

    assert message in said
    assert bool(said) == bool(message)
    if said:
        assert "needs 9.0 GiB (weights 4.6 GiB, context 4.0 GiB for 4 x 8,192 tokens" in said
        assert "10% more must stay free" in said


def test_memory_is_promised_once() -> None:
    promised, one, two = Reservations(), BackendName("one"), BackendName("two")
    promised.promise(one, Estimate(5, 3, 2))

    assert (promised.besides(two), promised.besides(one)) == (10, 0)
    promised.settle(one, Estimate(5, 3, 2))
    assert promised.besides(two) == (5 if sys.platform == "linux" else 0)
    promised.release(one)
    assert promised.besides(two) == 0


def test_restarts_wait_longer_and_longer_until_one_lasts() -> None:
    record, delays = Record(), []
    for _ in range(8):
        record = record.ended(ran_s=0.5)
        delays.append(record.delay_s)

    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]
    assert record.hopeless
    record = record.ended(ran_s=60.0)
    assert (record.delay_s, record.hopeless, record.restarts) == (1, False, 9)


@pytest.mark.parametrize(
    ("code", "said"),
    [(1, "exit code 1"), (-9, "SIGKILL"), (-6, "SIGABRT"), (-99, "signal 99"), (None, "guard was killed")],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals have no names there")
def test_an_end_is_described(code: int | None, said: str) -> None:
    assert said in describe_exit(code)


@pytest.mark.parametrize(
    ("text", "model", "name"),
    [
        ("tiny-chain-q8", "tiny-chain-q8", "tiny-chain-q8"),
        ("models/My Model (Q4).gguf", "My Model (Q4)", "My-Model-Q4"),
        ("big-00001-of-00003.gguf", "big", "big"),
        ("../x/.gguf", ".gguf", "gguf"),
        ("ü.gguf", "ü", "model"),
    ],
)
def test_a_reference_names_a_model_and_a_folder(text: str, model: str, name: str) -> None:
    assert (Reference(text).model, Reference(text).name) == (model, name)


def test_references_are_found_by_path_by_name_and_among_ours(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "Qwen-00001-of-00002.gguf").touch()
    (folder / "other.gguf").touch()

    assert resolve(Reference(str(folder / "other.gguf")), None) == folder / "other.gguf"
    assert resolve(Reference("other.gguf"), folder) == folder / "other.gguf"
    assert resolve(Reference("qwen"), folder) == folder / "sub" / "Qwen-00001-of-00002.gguf"
    assert resolve(Reference("tiny-chain-q8"), folder) == models.path("tiny-chain-q8")
    with pytest.raises(NotFoundError, match=r"which has Qwen, other"):
        resolve(Reference("missing"), folder)
    with pytest.raises(NotFoundError, match="models_dir is not set"):
        resolve(Reference("missing"), None)
    with pytest.raises(NotFoundError, match=r"there is no file missing\.gguf"):
        resolve(Reference(str(folder / "missing.gguf")), None)
