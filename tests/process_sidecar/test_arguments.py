from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.process.arguments import parse_arguments
from swarmplane.settings.load import load


def test_flags_are_settings_and_set_wins(tmp_path: Path) -> None:
    words = (
        "--data-dir", str(tmp_path), "--name", "desk", "--lan", "--no-mdns",
        "--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--backend", "http://127.0.0.1:1",
        "--advertise", "mac.local", "--log-level", "debug", "--set", "log.level=error",
        "--client-fd", "7", "--client-fd", "8", "--lifeline-stdin",
    )  # fmt: skip
    given = parse_arguments(words)
    settings = load(given.data_dir, given.overrides, {})
    assert (settings.node.name, settings.node.lan, settings.discovery.mdns) == ("desk", True, False)
    assert settings.client.listen == ("127.0.0.1:0", "[::1]:0")
    assert [backend.url for backend in settings.backends] == ["http://127.0.0.1:1"]
    assert settings.node.advertise == ("mac.local",)
    assert settings.log.level == "error"
    assert (given.client_fds, given.lifeline_fd) == ((7, 8), 0)


def test_nothing_given_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWARMPLANE_DATA_DIR", str(tmp_path))
    given = parse_arguments(())
    assert (given.data_dir, given.overrides, given.client_fds, given.lifeline_fd) == (tmp_path, (), (), None)


@pytest.mark.parametrize(
    "words", [("--bogus",), ("--client-fd", "x"), ("--lifeline-stdin", "--lifeline-fd", "3"), ("--adv", "h")]
)
def test_words_that_make_no_sense_are_usage(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(words)
    assert ended.value.code == 2
    assert "usage: swarm-sidecar" in capsys.readouterr().err
