"""``swarmctl connect``: what it writes into other programs' files, and that it can be taken out again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.connect.tools import TOOLS
from swarmplane.errors import FailedPreconditionError
from tests.cli.conftest import Done

Run = Callable[..., Done]
URL = ("--url", "http://127.0.0.1:9", "--model", "m1")
FILES = [tool.name for tool in TOOLS.values() if tool.file]
"""Tools with a file that everybody has."""
ALREADY = {
    "continue": "name: Mine\nversion: 1.0.0\nschema: v1\nmodels:\n    - name: Old\n      provider: ollama\n"
    "      model: llama3.2  # my favourite\nrules:\n  - be kind\n",
    "claude-code": '{\n    "env": {"ANTHROPIC_MODEL": "claude-x", "MINE": "1"},\n'
    '    "permissions": {"allow": ["é"]}\n}\n',
    "aider": "# mine\nmodel: gpt-5\ndark-mode: true\n",
    "codex": '# mine\nmodel = "gpt-5"  # best\n\n[model_providers.other]\nname = "Other"\n',
    "opencode": '{"theme": "dark", "provider": {"other": {"name": "Other"}}}',
    "zed": '{\n\t"theme": "One",\n\t"language_models": {"ollama": {"api_url": "http://x"}}\n}\n',
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    one = tmp_path / "home"
    one.mkdir()
    monkeypatch.setenv("HOME", str(one))
    monkeypatch.setenv("USERPROFILE", str(one))
    return one


def read(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return json.loads(text)
    return tomllib.loads(text) if file.suffix == ".toml" else yaml.safe_load(text)


@pytest.mark.parametrize("tool", TOOLS)
def test_printed_settings_name_the_host(swarmctl: Run, home: Path, tool: str) -> None:
    shown = swarmctl("connect", tool, *URL)
    assert shown.status == 0, shown.err
    assert "http://127.0.0.1:9" in shown.out
    document = json.loads(swarmctl("connect", tool, *URL, "--json").out)
    assert document["schema"] == "swarmctl.connect/v1"
    assert document["changed"] is False
    assert document["url"] == "http://127.0.0.1:9"
    assert "http://127.0.0.1:9" in json.dumps(document["settings"])
    assert list(home.iterdir()) == [], "nothing was written"


@pytest.mark.parametrize("tool", FILES)
@pytest.mark.parametrize("before", [False, True], ids=["new", "already-there"])
def test_written_and_taken_out_again(swarmctl: Run, home: Path, tool: str, before: bool) -> None:
    file = home / TOOLS[tool].file
    if before:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(ALREADY[tool], encoding="utf-8")
        file.chmod(0o640)
    done = swarmctl("connect", tool, *URL, "--write", "--json")
    assert done.status == 0, done.err
    document = json.loads(done.out)
    assert document["changed"] is True
    assert "http://127.0.0.1:9" in json.dumps(read(file))
    assert (file.stat().st_mode & 0o777) == (0o640 if before else 0o600)
    if before:
        assert Path(document["backup"]).read_text(encoding="utf-8") == ALREADY[tool]
        kept = {"continue": "be kind", "aider": "dark-mode", "codex": "other", "zed": "One"}
        assert kept.get(tool, "allow" if tool == "claude-code" else "Other") in str(read(file))
    written = file.read_bytes()
    again = json.loads(swarmctl("connect", tool, *URL, "--write", "--json").out)
    assert again["changed"] is False
    assert file.read_bytes() == written
    listed = json.loads(swarmctl("connect", "--json").out)["items"]
    assert {one["name"] for one in listed if one["connected"]} == {tool}
    undone = json.loads(swarmctl("connect", tool, "--undo", "--json").out)
    assert undone["exact"] is True
    if before:
        assert file.read_text(encoding="utf-8") == ALREADY[tool]
        assert not Path(document["backup"]).exists()
    else:
        assert not file.exists()
    assert json.loads(swarmctl("connect", tool, "--undo", "--json").out)["changed"] is False


@pytest.mark.parametrize("tool", FILES)
def test_another_model_replaces_the_first_and_the_way_back_leads_to_the_beginning(
    swarmctl: Run, home: Path, tool: str
) -> None:
    file = home / TOOLS[tool].file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(ALREADY[tool], encoding="utf-8")
    swarmctl("connect", tool, *URL, "--write")
    swarmctl("connect", tool, "--url", "http://127.0.0.1:10", "--model", "m2", "--write")
    text = json.dumps(read(file))
    assert "127.0.0.1:10" in text
    assert "m2" in text
    assert "127.0.0.1:9" not in text
    assert '"m1"' not in text
    assert swarmctl("connect", tool, "--undo").status == 0
    assert file.read_text(encoding="utf-8") == ALREADY[tool]


EDITS = {
    "continue": ("be kind", "be brief"),
    "claude-code": ('"MINE": "1"', '"MINE": "2"'),
    "aider": ("dark-mode: true", "dark-mode: false"),
    "codex": ('"Other"', '"Another"'),
    "opencode": ('"dark"', '"light"'),
    "zed": ('"One"', '"Two"'),
}


@pytest.mark.parametrize("tool", FILES)
def test_what_was_changed_since_stays(swarmctl: Run, home: Path, tool: str) -> None:
    file = home / TOOLS[tool].file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(ALREADY[tool], encoding="utf-8")
    swarmctl("connect", tool, *URL, "--write")
    old, new = EDITS[tool]
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    undone = json.loads(swarmctl("connect", tool, "--undo", "--json").out)
    assert undone["exact"] is False
    expected = home / f"expected{file.suffix}"
    expected.write_text(ALREADY[tool].replace(old, new), encoding="utf-8")
    assert read(file) == read(expected)


def test_a_file_with_comments_is_left_alone(swarmctl: Run, home: Path) -> None:
    file = home / TOOLS["zed"].file
    file.parent.mkdir(parents=True)
    file.write_text('// Zed settings\n{"theme": "One"}\n')
    done = swarmctl("connect", "zed", *URL, "--write")
    assert done.status == 1
    assert "by hand" in done.err
    assert file.read_text() == '// Zed settings\n{"theme": "One"}\n'
    assert [one.name for one in file.parent.iterdir()] == ["settings.json"]


def test_a_list_on_one_line_is_left_alone(swarmctl: Run, home: Path) -> None:
    file = home / TOOLS["continue"].file
    file.parent.mkdir(parents=True)
    file.write_text("models: []\n")
    assert swarmctl("connect", "continue", *URL, "--write").status == 1
    assert file.read_text() == "models: []\n"


def test_a_link_stays_one(swarmctl: Run, home: Path) -> None:
    true_file, file = home / "dotfiles.json", home / TOOLS["claude-code"].file
    true_file.write_text("{}\n")
    file.parent.mkdir(parents=True)
    file.symlink_to(true_file)
    assert swarmctl("connect", "claude-code", *URL, "--write").status == 0
    assert file.is_symlink()
    assert "ANTHROPIC_BASE_URL" in true_file.read_text()


def test_a_file_can_be_named(swarmctl: Run, home: Path) -> None:
    file = home / "litellm.yaml"
    file.write_text("model_list:\n- model_name: old\n  litellm_params:\n    model: openai/old\n")
    assert swarmctl("connect", "litellm", *URL, "--write", "--file", str(file)).status == 0
    names = [one["model_name"] for one in yaml.safe_load(file.read_text())["model_list"]]
    assert names == ["m1", "old"]
    environment = home / "webui.env"
    environment.write_text("export OPENAI_API_KEY=secret\nOTHER=1\n")
    assert swarmctl("connect", "open-webui", *URL, "--write", "--file", str(environment)).status == 0
    assert "\nOLLAMA_BASE_URL=http://127.0.0.1:9\n" in environment.read_text()
    assert swarmctl("connect", "open-webui", "--undo").status == 0
    assert environment.read_text() == "export OPENAI_API_KEY=secret\nOTHER=1\n"


@pytest.mark.usefixtures("home")
def test_wrong_usage(swarmctl: Run) -> None:
    assert swarmctl("connect", "nobodys-tool").status == 2
    assert swarmctl("connect", "open-webui", *URL, "--write").status == 2, "it has no file of its own"
    assert swarmctl("connect", "zed", "--write", "--undo").status == 2


def test_a_failure_is_told_by_name() -> None:
    from cli.connect.forms import put

    with pytest.raises(FailedPreconditionError, match="TOML"):
        put(TOOLS["codex"], "= nothing", {})


SECRET = "sk-swarm-c2VjcmV0"


@pytest.mark.parametrize("tool", TOOLS)
def test_a_key_comes_from_a_file_and_stands_in_the_settings_alone(
    swarmctl: Run, home: Path, tmp_path: Path, tool: str
) -> None:
    """Kills: a key in words or in the document of what was written, and a file that others can read."""
    given = tmp_path / "key"
    given.write_text(f"{SECRET}\n")
    shown = swarmctl("connect", tool, *URL, "--key-file", str(given))
    assert (shown.status, SECRET in shown.out) == (0, tool != "zed")  # Zed keeps keys elsewhere
    assert SECRET not in shown.err
    file = home / "settings"
    if TOOLS[tool].file:
        file = home / TOOLS[tool].file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(ALREADY[tool], encoding="utf-8")
        file.chmod(0o644)
    done = swarmctl("connect", tool, *URL, "--key-file", str(given), "--write", "--file", str(file), "--json")
    assert done.status == 0, done.err
    assert SECRET not in done.out + done.err
    assert (SECRET in file.read_text(encoding="utf-8")) is (tool != "zed")
    assert file.stat().st_mode & 0o077 == 0
    assert json.loads(swarmctl("connect", tool, "--undo", "--json").out)["exact"] is True


@pytest.mark.parametrize("text", ["", "two words\n", "a\nOTHER=1\n", "'"])
def test_what_is_no_key_is_not_written(swarmctl: Run, home: Path, tmp_path: Path, text: str) -> None:
    given = tmp_path / "key"
    given.write_text(text)
    for file in (given, tmp_path / "none"):
        done = swarmctl("connect", "openai", *URL, "--key-file", str(file))
        assert (done.status, "--key-file" in done.err) == (2, True)
    assert list(home.iterdir()) == []
