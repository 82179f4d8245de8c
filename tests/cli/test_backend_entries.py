"""What ``swarmctl backend`` writes into ``config.toml``."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.backends import ignore, remove, save, saved
from swarmplane.datadir import DataDir
from swarmplane.settings.backend import BackendSettings
from swarmplane.settings.load import load


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path)


def test_the_same_place_is_named_once_however_it_is_spelt(data_dir: DataDir) -> None:
    (data_dir.root / "config.toml").write_text('# mine\n[[backends]]\nurl = "http://127.0.0.1:8000/v1/"\n')
    save(data_dir, BackendSettings(url="http://127.0.0.1:8000", name="vllm"))
    save(data_dir, BackendSettings(url="http://127.0.0.1:9000", name="other"))
    assert [(one.name, one.url) for one in saved(data_dir)] == [
        ("vllm", "http://127.0.0.1:8000"),
        ("other", "http://127.0.0.1:9000"),
    ]
    assert remove(data_dir, "127.0.0.1:8000/v1")
    assert remove(data_dir, "other")
    assert not remove(data_dir, "other")
    assert saved(data_dir) == ()
    assert (data_dir.root / "config.toml").read_text().startswith("# mine")


def test_what_was_ignored_is_not_once_it_is_named(data_dir: DataDir) -> None:
    for _ in range(2):
        ignore(data_dir, "local-8000")
    ignore(data_dir, "127.0.0.1:9000")
    assert load(data_dir.root, environ={}).discovery.ignore == ("local-8000", "127.0.0.1:9000")
    save(data_dir, BackendSettings(url="http://127.0.0.1:8000", name="local-8000"))
    assert load(data_dir.root, environ={}).discovery.ignore == ("127.0.0.1:9000",)
    save(data_dir, BackendSettings(url="http://127.0.0.1:9000/v1", name="mine"))
    assert load(data_dir.root, environ={}).discovery.ignore == ()
