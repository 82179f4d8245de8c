from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from swarmplane.errors import Code, InvalidRequestError
from swarmplane.settings.load import load, load_with_origins
from swarmplane.settings.schema import Settings

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A data directory with this ``config.toml``."""

    def put(text: str) -> Path:
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        return tmp_path

    return put


def at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


def test_without_anything_defaults_hold(tmp_path: Path) -> None:
    loaded = load_with_origins(tmp_path, (), {})
    assert loaded.settings == Settings()
    assert loaded.origins == {}
    assert str(loaded.origin("drain_s")) == "default"


@pytest.mark.parametrize(
    ("file", "environ", "overrides", "expected", "origin"),
    [
        pytest.param("", {}, [], 60.0, "default", id="default"),
        pytest.param("drain_s = 1", {}, [], 1.0, "file", id="file-over-default"),
        pytest.param("drain_s = 1", {"SWARMPLANE_DRAIN_S": "2"}, [], 2.0, "environment", id="env-over-file"),
        pytest.param(
            "drain_s = 1", {"SWARMPLANE_DRAIN_S": "2"}, ["drain_s=3"], 3.0, "command line", id="line-over-env"
        ),
        pytest.param("", {}, ["drain_s=3", "drain_s=4"], 4.0, "command line", id="the-last-of-the-line"),
        pytest.param(
            "drain_s = 1", {"SWARMPLANE_DRAIN_S": ""}, [], 1.0, "file", id="an-empty-variable-is-unset"
        ),
    ],
)
def test_priority(
    write: Write,
    file: str,
    environ: Mapping[str, str],
    overrides: Sequence[str],
    expected: float,
    origin: str,
) -> None:
    loaded = load_with_origins(write(file), overrides, environ)
    assert loaded.settings.drain_s == expected
    assert loaded.origin("drain_s").kind == origin


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        pytest.param("node.name=123", "node.name", "123", id="text-stays-text"),
        pytest.param('swarm.name="a b"', "swarm.name", "a b", id="quoted-text"),
        pytest.param("node.lan=true", "node.lan", True, id="truth"),
        pytest.param(
            "client.listen=:1,127.0.0.1:2", "client.listen", (":1", "127.0.0.1:2"), id="list-by-commas"
        ),
        pytest.param('client.listen=[":1", ":2"]', "client.listen", (":1", ":2"), id="list-as-json"),
        pytest.param("client.listen=[':1']", "client.listen", (":1",), id="list-as-toml"),
        pytest.param("client.listen=", "client.listen", (), id="empty-list"),
        pytest.param("node.labels=a=1,b=2", "node.labels", {"a": "1", "b": "2"}, id="table-as-pairs"),
        pytest.param('node.labels={"a": 1}', "node.labels", {"a": "1"}, id="table-as-json"),
        pytest.param("node.labels.gpu=a100", "node.labels", {"gpu": "a100"}, id="one-name-of-a-table"),
        pytest.param("node.labels.a.b=c", "node.labels", {"a.b": "c"}, id="a-name-with-a-dot"),
        pytest.param("engine.kind=llama-server", "engine.kind", "llama-server", id="choice"),
        pytest.param("engine.slots=7", "engine.slots", 7, id="number"),
    ],
)
def test_forms_of_values(tmp_path: Path, override: str, path: str, expected: Any) -> None:
    assert at(load(tmp_path, [override], {}), path) == expected
    name, _, value = override.partition("=")
    if name != "node.labels.a.b" and value:
        variable = "SWARMPLANE_" + name.upper().replace(".", "__")
        assert at(load(tmp_path, [], {variable: value}), path) == expected, "as a variable too"


@pytest.mark.parametrize(
    "override",
    [
        'backends=[{url="http://a:1"}, {url="http://b:2"}]',
        """backends=[{url='http://a:1'}, {"url"='http://b:2'}]""",
        'backends=[{"url": "http://a:1"}, {"url": "http://b:2"}]',
        "backends=http://a:1,http://b:2",
        'backends=["http://a:1", "http://b:2"]',
    ],
)
def test_lists_of_tables(tmp_path: Path, override: str) -> None:
    backends = load(tmp_path, [override], {}).backends
    assert [one.url for one in backends] == ["http://a:1", "http://b:2"]


def test_names_of_a_table_add_up(write: Write) -> None:
    data_dir = write("[node.labels]\na = '1'\nb = '2'\n")
    settings = load(data_dir, ["node.labels.b=3", "node.labels.c=4"], {})
    assert settings.node.labels == {"a": "1", "b": "3", "c": "4"}


def test_relative_paths_start_where_they_were_written(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = write('[engine]\nmodels_dir = "models"\n[[backends]]\nurl = "http://a"\nkey_file = "key"\n')
    monkeypatch.chdir(data_dir.parent)
    settings = load(data_dir, ["swarm.secret_file=secret"], {})
    assert settings.engine.models_dir == data_dir / "models"
    assert settings.backends[0].key_file == data_dir / "key"
    assert settings.swarm.secret_file == data_dir.parent / "secret"


@pytest.mark.parametrize(
    ("file", "environ", "overrides", "words"),
    [
        pytest.param(
            "[client]\nlisen = 1", {}, [], ["client.lisen", "config.toml", "client.listen"], id="file"
        ),
        pytest.param("[clinet]\nlisten = 1", {}, [], ["clinet", "config.toml"], id="section"),
        pytest.param(
            "", {"SWARMPLANE_CLIENT__LISEN": "x"}, [], ["SWARMPLANE_CLIENT__LISEN", "client.listen"], id="env"
        ),
        pytest.param("", {}, ["node.nam=x"], ["node.nam", "did you mean node.name?"], id="line"),
        pytest.param("", {}, ["lan=true"], ["did you mean node.lan?"], id="without-its-section"),
        pytest.param("", {}, ["zzzzzz=1"], ["zzzzzz", "config schema"], id="nothing-near"),
        pytest.param("", {}, ['backends=[{ulr="x"}]'], ["did you mean backends.url?"], id="in-a-list"),
        pytest.param("", {}, ["drain_s=soon"], ["drain_s = 'soon'", "number", "--set drain_s"], id="number"),
        pytest.param("drain_s = -1", {}, [], ["drain_s = -1", "config.toml"], id="range"),
        pytest.param("", {}, ["engine.kind=x"], ["engine.kind", "llama-server"], id="choice"),
        pytest.param(
            "", {"SWARMPLANE_NODE__LAN": "maybe"}, [], ["node.lan", "SWARMPLANE_NODE__LAN"], id="truth"
        ),
        pytest.param("client = 1", {}, [], ["[client]"], id="a-table-is-needed"),
        pytest.param("drain_s = ", {}, [], ["config.toml", "TOML"], id="no-toml"),
        pytest.param("", {}, ["client.listen=:1,x"], ["client.listen", "HOST:PORT"], id="address"),
        pytest.param("", {}, ["admin.listen=11402"], ["admin.listen", "HOST:PORT"], id="a-port-alone"),
        pytest.param("", {}, ["node.name=My Mac"], ["node.name", "lower-case"], id="name"),
        pytest.param("", {}, ["drain_s"], ["key=value"], id="no-assignment"),
        pytest.param("", {}, ["client.listen=[a"], ["neither JSON nor TOML"], id="broken-list"),
        pytest.param("", {}, ["node.labels=a"], ["name=value"], id="broken-pair"),
        pytest.param("", {}, ["node.labels=a=1,b", "x=1"], ["name=value"], id="the-first-that-can't-be-read"),
        pytest.param("node.labels = 3", {}, [], ["node.labels = 3", "config.toml"], id="another-kind"),
    ],
)
def test_what_is_wrong_is_named(
    write: Write, file: str, environ: Mapping[str, str], overrides: Sequence[str], words: Sequence[str]
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        load(write(file), overrides, environ)
    assert caught.value.code is Code.INVALID_REQUEST
    for word in words:
        assert word in caught.value.message


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        load(tmp_path, ["drain_s=x", "engine.slots=0", "nonsense=1"], {})
    assert len(caught.value.message.splitlines()) == 3


def test_lenient_warns(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    data_dir = write("[config]\nlenient = true\n[client]\nlisen = 1\nlisten = [':1']\n")
    with caplog.at_level(logging.WARNING):
        settings = load(data_dir, (), {})
    assert settings.client.listen == (":1",)
    assert "client.lisen" in caplog.text
    assert load_with_origins(data_dir, (), {}).warnings
    with pytest.raises(InvalidRequestError):
        load(data_dir, ["drain_s=x"], {})


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_CLIENT",
        "PORT",
        "PORT_11400_TCP_ADDR",
        "DATA_DIR",
        "CONTEXT",
    ],
)
def test_variables_of_others_are_left_alone(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, (), {f"SWARMPLANE_{name}": "tcp://10.0.0.1:1"}) == Settings()


def test_the_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMPLANE_DRAIN_S", "5")
    assert load(tmp_path).drain_s == 5
