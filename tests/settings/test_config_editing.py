from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from swarmplane.errors import InvalidRequestError
from swarmplane.settings.edit import edit
from swarmplane.settings.load import load

MINE = '# mine\ndrain_s = 3 # seconds\n\n[client]\n# where\nlisten = [":8080"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(MINE)
    return path


def test_comments_and_order_stay(file: Path) -> None:
    assert edit(file, ["drain_s=9", "client.listen=:1,:2"]) == ("drain_s", "client.listen")
    assert file.read_text() == '# mine\ndrain_s = 9.0 # seconds\n\n[client]\n# where\nlisten = [":1", ":2"]\n'


def test_new_sections_and_lists_of_tables(file: Path) -> None:
    edit(file, ["node.lan=true", "node.labels.zone=x", "backends=http://a:1,http://b:2"])
    settings = load(file.parent, (), {})
    assert settings.node.lan
    assert settings.node.labels == {"zone": "x"}
    assert [one.url for one in settings.backends] == ["http://a:1", "http://b:2"]
    assert '[[backends]]\nurl = "http://a:1"' in file.read_text()
    assert "slots" not in file.read_text(), "defaults of entries are left out"
    edit(file, ["backends=http://c:3"])
    assert [one.url for one in load(file.parent, (), {}).backends] == ["http://c:3"]


def test_what_is_wrong_is_not_written(file: Path) -> None:
    for wrong in ("drain_s=x", "drian_s=1", "drain_s"):
        with pytest.raises(InvalidRequestError):
            edit(file, ["node.lan=true", wrong])
    with pytest.raises(InvalidRequestError, match="nonsense"):
        edit(file, [], unset=["nonsense"])
    assert file.read_text() == MINE


def test_a_file_that_was_wrong_before_is_left_alone(file: Path) -> None:
    file.write_text("lisen = 1\n")
    with pytest.raises(InvalidRequestError, match="lisen"):
        edit(file, ["drain_s=1"])
    assert file.read_text() == "lisen = 1\n"


def test_keys_are_taken_out(file: Path) -> None:
    edit(file, ["swarm.secret_file=/x"])
    assert edit(file, [], unset=["client.listen", "swarm.secret_file", "peer.listen"]) == (
        "client.listen",
        "swarm.secret_file",
        "peer.listen",
    )
    settings = load(file.parent, (), {})
    assert settings.client.listen == ()
    assert settings.swarm.secret_file is None
    assert "# where" in file.read_text()


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.toml"
    edit(path, ["drain_s=1"])
    assert path.read_text() == "drain_s = 1.0\n"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_changed_nothing_written(file: Path) -> None:
    before = file.stat().st_mtime_ns
    edit(file, ["drain_s=3"])
    first = file.read_text()
    edit(file, ["drain_s=3"])
    assert file.read_text() == first
    assert before <= file.stat().st_mtime_ns
