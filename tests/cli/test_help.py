"""``--help`` is instant, complete, and changes only on purpose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cli.lazy import LazyGroup
from cli.main import cli
from tests.cli.conftest import Done

GOLDEN = Path(__file__).parent / "golden"
HEAVY = {
    "grpc",
    "google.protobuf",
    "pydantic",
    "cryptography",
    "aiohttp",
    "structlog",
    "psutil",
    "tomlkit",
    "asyncio",
    "ssl",
    "sidecar",
    "controlplane",
}


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    ctx = click.Context(group)
    found = []
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += _commands(command, (*path, name))
    return found


ALL = _commands(cli)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["node", "--help"], ["up", "--help"], ["demo", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from cli.main import main\n"
        f"status = main({arguments!r})\n"
        "print(json.dumps(sorted(sys.modules)))\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not {name for name in HEAVY if name in loaded}


@pytest.mark.parametrize("path", [(), *ALL], ids=lambda path: "-".join(path) or "swarmctl")
def test_help_is_as_agreed(path: tuple[str, ...], swarmctl: Callable[..., Done]) -> None:
    """After a change on purpose: ``UPDATE_GOLDEN=1 pytest tests/cli/test_help.py``."""
    done = swarmctl(*path, "--help", data_dir=None)
    assert done.status == 0
    file = GOLDEN / f"{'-'.join(path) or 'swarmctl'}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(done.out)
    assert done.out == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == {"swarmctl", *("-".join(path) for path in ALL)}


def test_first_lines_in_the_list_are_those_of_the_commands() -> None:
    assert isinstance(cli, LazyGroup)
    ctx = click.Context(cli)
    for name in cli.list_commands(ctx):
        command = cli.get_command(ctx, name)
        assert command is not None
        assert command.help
        assert command.name == name


@pytest.mark.parametrize("path", ALL, ids="-".join)
def test_every_command_takes_the_options_of_all(path: tuple[str, ...], swarmctl: Callable[..., Done]) -> None:
    done = swarmctl(*path, "--help", data_dir=None)
    for option in ("--json", "--output", "--context", "--data-dir", "--verbose"):
        assert option in done.out


def test_an_unknown_command_is_usage(swarmctl: Callable[..., Done]) -> None:
    done = swarmctl("nonsense", data_dir=None)
    assert done.status == 2
    assert "nonsense" in done.err
    assert done.out == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion(shell: str, swarmctl: Callable[..., Done]) -> None:
    done = swarmctl("completion", shell, data_dir=None)
    assert done.status == 0
    assert "_SWARMCTL_COMPLETE" in done.out


def test_completion_completes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main"],
        env={
            **os.environ,
            "_SWARMCTL_COMPLETE": "zsh_complete",
            "COMP_WORDS": "swarmctl node l",
            "COMP_CWORD": "2",
        },
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert "list" in done.stdout
