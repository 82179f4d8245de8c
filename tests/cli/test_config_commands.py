from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done

Run = Callable[..., Done]


def test_set_show_unset(swarmctl: Run, tmp_path: Path) -> None:
    assert swarmctl("config", "set", "client.listen=:8080", "drain_s=5").status == 0
    assert swarmctl("config", "set", "node.name", "box").status == 0
    shown = swarmctl("config", "show")
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == [
        "drain_s",
        "node.name",
        "client.listen",
    ]
    assert str(tmp_path / "config.toml") in shown.out
    document = json.loads(swarmctl("config", "show", "--json").out)
    assert document["schema"] == "swarmctl.config/v1"
    assert document["settings"]["client"]["listen"] == [":8080"]
    origins = {item["name"]: item["origin"] for item in document["items"]}
    assert origins["drain_s"] == "file"
    assert origins["engine.slots"] == "default"
    done = swarmctl("config", "set", "--unset", "drain_s", "--json")
    assert json.loads(done.out)["changed"] == ["drain_s"]
    assert "drain_s" not in (tmp_path / "config.toml").read_text()


def test_show_of_a_part(swarmctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "defaults" in swarmctl("config", "show").out
    monkeypatch.setenv("SWARMPLANE_ENGINE__SLOTS", "9")
    shown = swarmctl("config", "show", "engine")
    assert "SWARMPLANE_ENGINE__SLOTS" in shown.out
    assert "engine.kind" in shown.out
    assert "node.name" not in shown.out
    assert "node.name" in swarmctl("config", "show", "--all").out


def test_check(swarmctl: Run, tmp_path: Path) -> None:
    assert swarmctl("config", "check").status == 0
    (tmp_path / "config.toml").write_text("[client]\nlisen = 1\n")
    done = swarmctl("config", "check")
    assert done.status == 2
    assert "did you mean client.listen" in done.err
    (tmp_path / "config.toml").write_text("[config]\nlenient = true\n[client]\nlisen = 1\n")
    done = swarmctl("config", "check", "--json")
    assert done.status == 0
    assert json.loads(done.out)["warnings"]
    assert "warning: unknown setting client.lisen" in done.err


def test_wrong_values_are_usage_and_not_written(swarmctl: Run, tmp_path: Path) -> None:
    assert swarmctl("config", "set", "drain_s=x").status == 2
    assert swarmctl("config", "set").status == 2
    assert not (tmp_path / "config.toml").exists()


def test_schema(swarmctl: Run) -> None:
    schema = json.loads(swarmctl("config", "schema").out)
    assert "client" in schema["properties"]
    assert json.loads(swarmctl("config", "schema", "--json").out)["json_schema"] == schema


def test_version(swarmctl: Run) -> None:
    document = json.loads(swarmctl("version", "-o", "json").out)
    assert document["schema"] == "swarmctl.version/v1"
    assert document["version"] in swarmctl("version").out


def test_without_a_swarm_commands_say_what_to_do(swarmctl: Run) -> None:
    for command in (("node", "list"), ("model", "list"), ("token", "create"), ("route", "list")):
        done = swarmctl(*command)
        assert done.status == 1
        assert "swarmctl up" in done.err
        assert done.out == ""
    assert "there is no context" in swarmctl("node", "list", "--context", "nope").err
    assert swarmctl("context", "use", "../x").status == 2


def test_a_host_that_is_down(swarmctl: Run) -> None:
    done = swarmctl("status", "--json")
    assert done.status == 1
    document = json.loads(done.out)
    assert document["schema"] == "swarmctl.status/v1"
    assert not document["running"]
    assert document["runtime"] is None
    assert "swarmctl up" in swarmctl("status").out
    assert swarmctl("down").status == 0
    assert swarmctl("leave").status == 0
    assert json.loads(swarmctl("context", "list", "--json").out)["items"] == []
    assert swarmctl("logout").status == 0


def test_logs(swarmctl: Run, tmp_path: Path) -> None:
    assert "foreground" in swarmctl("logs").err
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "host.log").write_text(
        "old words\n2001-01-01T00:00:00.5Z [info] old\n  more of it\n"
        "\x1b[2m2999-01-01T00:00:00Z\x1b[0m [info] new\nmore of the new\n"
    )
    assert len(swarmctl("logs").out.splitlines()) == 5
    assert swarmctl("logs", "-n", "1").out == "more of the new\n"
    recent = swarmctl("logs", "--since", "1h", "--json").out.splitlines()
    assert [json.loads(line)["line"] for line in recent] == [
        "2999-01-01T00:00:00Z [info] new",
        "more of the new",
    ]
    assert "there are: none" in swarmctl("logs", "--engine", "m").err
    engine = tmp_path / "engines" / "tiny-trained"
    engine.mkdir(parents=True)
    (engine / "engine.log").write_text("llama\n")
    assert swarmctl("logs", "--engine", "Trained").out == "llama\n"


def test_a_join_needs_a_token(swarmctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = swarmctl("join", "127.0.0.1:1")
    assert done.status == 2
    assert "token create" in done.err
    assert swarmctl("join", "127.0.0.1:1", "--token-file", "/nonexistent").status == 2
    assert swarmctl("join", "127.0.0.1:1", "--token-file", "x", "--token", "y").status == 2
    done = swarmctl("join", "127.0.0.1:1", "--token", "secret-words")
    assert done.status == 2
    assert "warning" in done.err
    assert "swp1." in done.err
    assert "secret-words" not in done.err


def test_reload_without_a_running_host_says_so(swarmctl: Run) -> None:
    done = swarmctl("config", "reload")
    assert done.status == 75
    assert "does not run" in done.err
