from __future__ import annotations

from pathlib import Path

import pytest

from swarmplane.settings.directories import config_file, default_data_dir

HOME = {"HOME": "/h"}


@pytest.mark.parametrize(
    ("platform", "environ", "data", "config"),
    [
        ("linux", HOME, "/h/.local/share/swarmplane", "/h/.config/swarmplane/config.toml"),
        (
            "linux",
            {**HOME, "XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"},
            "/d/swarmplane",
            "/c/swarmplane/config.toml",
        ),
        (
            "darwin",
            HOME,
            "/h/Library/Application Support/swarmplane",
            "/h/Library/Application Support/swarmplane/config.toml",
        ),
        (
            "win32",
            {**HOME, "LOCALAPPDATA": "/l", "APPDATA": "/r"},
            "/l/swarmplane",
            "/r/swarmplane/config.toml",
        ),
    ],
)
def test_by_convention(platform: str, environ: dict[str, str], data: str, config: str) -> None:
    assert default_data_dir(environ, platform=platform) == Path(data)
    assert config_file(Path(data), environ, platform=platform) == Path(config)


def test_another_data_directory_has_its_own_settings(tmp_path: Path) -> None:
    assert config_file(tmp_path, HOME, platform="linux") == tmp_path / "config.toml"


def test_a_variable_names_the_data_directory(tmp_path: Path) -> None:
    environ = {**HOME, "SWARMPLANE_DATA_DIR": str(tmp_path)}
    assert default_data_dir(environ, platform="linux") == tmp_path
    assert config_file(tmp_path, environ, platform="linux") == tmp_path / "config.toml"
