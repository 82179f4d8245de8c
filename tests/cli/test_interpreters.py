"""How a Python was built: by what the Pythons of others recorded, and by those of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from cli.doctor.checks import ALL
from cli.doctor.examine import rows
from swarmplane import interpreter
from swarmplane.interpreter import WORDS, Build, Interpreter, build_of, interpreter_here
from tests.cli.conftest import Done

ROOT = Path(__file__).parents[2]
ASK = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from swarmplane.interpreter import interpreter_here\n"
    "python = interpreter_here(); print(python.version, python.build, sys.base_prefix)"
)
PYENV = (
    "'--prefix=/srv/me/.pyenv/versions/3.11.7' '--enable-shared' "
    "'--libdir=/srv/me/.pyenv/versions/3.11.7/lib' "
    "'LDFLAGS=-L/srv/me/.pyenv/versions/3.11.7/lib' 'CPPFLAGS=-I/srv/me/.pyenv/versions/3.11.7/include'"
)
DEBIAN = (
    "'--enable-shared' '--prefix=/usr' '--libdir=/usr/lib/x86_64-linux-gnu' '--enable-ipv6' "
    "'--with-computed-gotos' '--without-ensurepip' '--with-system-expat' 'CC=x86_64-linux-gnu-gcc' "
    "'CFLAGS=-g   -fstack-protector-strong -Wformat -Werror=format-security ' 'LDFLAGS=  -g -fwrapv -O2   '"
)
UV = (
    "'--build=x86_64-unknown-linux-gnu' '--host=x86_64-unknown-linux-gnu' '--prefix=/install' "
    "'--with-openssl=/tools/deps' '--without-ensurepip' '--enable-shared' '--enable-optimizations' "
    "'--enable-bolt' '--with-lto' '--with-build-python=/tools/host/bin/python3.12' 'CC=clang'"
)
UV_CROSS = (
    "'--build=x86_64-unknown-linux-gnu' '--host=aarch64-unknown-linux-gnu' '--prefix=/install' "
    "'--without-ensurepip' '--enable-shared' '--with-lto' 'CC=/usr/bin/aarch64-linux-gnu-gcc'"
)
HOMEBREW = (
    "'--prefix=/opt/homebrew/opt/python@3.11' '--enable-ipv6' '--without-ensurepip' '--enable-optimizations' "
    "'--with-lto' '--enable-framework=/opt/homebrew/opt/python@3.11/Frameworks' 'MACOSX_DEPLOYMENT_TARGET=13'"
)
CONDA = (
    "'--prefix=/feedstock_root/build_artifacts/_h_env_placehold_placehold' '--with-ensurepip=no' "
    "'--with-lto=full' '--enable-optimizations' '--disable-shared' 'PROFILE_TASK=-m test --pgo'"
)
HOME = "/srv/me/.pyenv/versions/3.11.7"


@pytest.mark.parametrize(
    ("arguments", "prefix", "system", "build"),
    [
        (PYENV, HOME, "linux", "plain"),
        (PYENV, "/srv/me/.asdf/installs/python/3.12.1", "darwin", "plain"),
        (f"{PYENV} '--enable-optimizations' '--with-lto'", HOME, "linux", "optimised"),
        (f"{PYENV} '--enable-optimizations=yes'", HOME, "linux", "optimised"),
        (f"{PYENV} '--enable-optimizations' '--disable-optimizations'", HOME, "linux", "plain"),
        (f"{PYENV} '--enable-optimizations=no'", HOME, "linux", "plain"),
        (f"{PYENV} 'CFLAGS=-O3 -flto'", HOME, "linux", "unknown"),
        (DEBIAN, "/usr", "linux", "distribution"),
        (f"{DEBIAN} '--enable-optimizations'", "/usr", "linux", "optimised"),
        (UV, "/srv/me/.local/share/uv/python/cpython-3.12", "linux", "optimised"),
        (UV_CROSS, "/srv/me/.local/share/uv/python/cpython-3.12", "linux", "unknown"),
        (HOMEBREW, "/opt/homebrew/opt/python@3.11/Frameworks", "darwin", "optimised"),
        (CONDA, "/srv/me/miniconda3", "linux", "optimised"),
        ("'--prefix=/usr/local'", "/usr/local", "linux", "plain"),
        ("'--prefix=/usr/local' '--enable-optimizations'", "/usr/local", "linux", "optimised"),
        ("'--prefix=/usr/local'", "/usr/local", "freebsd14", "distribution"),
        ("'--prefix=/nix/store/x-python3-3.12.4'", "/nix/store/x-python3-3.12.4", "linux", "distribution"),
        ("'--prefix=/usrlocal'", "/usrlocal", "linux", "plain"),
        ("", HOME, "linux", "plain"),
        (None, "C:\\Program Files\\Python312", "win32", "unknown"),
    ],
)  # fmt: skip
def test_a_build_is_known_by_how_it_was_configured(
    arguments: str | None, prefix: str, system: str, build: Build
) -> None:
    config: dict[str, object] = {"CONFIG_ARGS": arguments, "Py_DEBUG": 0, "Py_GIL_DISABLED": 0}
    assert build_of(config, prefix, system) == build
    assert build_of({**config, "Py_GIL_DISABLED": 1}, prefix, system) == "free-threaded"
    assert build_of({**config, "Py_DEBUG": 1, "Py_GIL_DISABLED": 1}, prefix, system) == "debug"


def test_conda_s_own_and_other_interpreters_are_not_taken_for_plain() -> None:
    assert (
        build_of({"CONFIG_ARGS": "'--prefix=/srv/me/miniconda3'"}, "/srv/me/miniconda3", conda=True)
        == "distribution"
    )
    assert build_of({}, HOME) == "unknown"


def test_every_build_has_words() -> None:
    assert set(WORDS) == set(get_args(Build))
    assert str(Interpreter("3.11.7", "plain")) == "Python 3.11.7, built without optimisations"


def _asked(python: str) -> tuple[Interpreter, str] | None:
    """What ``python`` says of itself, and where it is; None where it is too old, or a name only."""
    done = subprocess.run(
        [python, "-I", "-B", "-c", ASK], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        return None
    version, build, prefix = done.stdout.split(maxsplit=2)
    return Interpreter(version, next(one for one in get_args(Build) if one == build)), prefix.strip()


def _of_this_machine() -> list[tuple[Interpreter, str]]:
    """Those that are installed, this one first."""
    names = ("python3.11", "python3.12", "python3.13", "/usr/bin/python3.11", "/usr/bin/python3")
    asked = [_asked(python) for python in (sys.executable, *filter(None, map(shutil.which, names)))]
    return [one for one in asked if one is not None]


@pytest.mark.breaks("machine.python")
def test_a_plain_build_on_this_machine_is_found_and_others_are_not(swarmctl: Callable[..., Done]) -> None:
    """Where none is, all are found to be none; the test below breaks it everywhere."""
    check = next(one for one in ALL if one.id == "machine.python")
    found = _of_this_machine()
    assert found[0] == (interpreter_here(), sys.base_prefix)
    for python, prefix in found:
        assert python.build != "plain" or prefix != "/usr"
        (row,) = rows([check], {check.source: python})
        assert (row.state == "failed") is (python.build in {"plain", "debug", "free-threaded"}), prefix
        assert ("PYTHON=/usr/bin/python3" in str(row.document()["fix"])) is (row.state == "failed")
    done = swarmctl("doctor", "--json")
    (row,) = rows([check], {check.source: interpreter_here()})
    assert [one for one in json.loads(done.out)["items"] if one["id"] == check.id] == [row.document()]


@pytest.mark.breaks("machine.python", recorded="what pyenv's Python and Debian's say of themselves")
def test_a_plain_build_is_told_with_what_to_do(
    swarmctl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(arguments: str, prefix: str) -> Any:
        here = SimpleNamespace(implementation=sys.implementation, base_prefix=prefix, platform="linux")
        monkeypatch.setattr(interpreter, "sys", here)
        record = SimpleNamespace(get_config_vars=lambda: {"CONFIG_ARGS": arguments, "Py_DEBUG": 0})
        monkeypatch.setattr(interpreter, "sysconfig", record)
        rows = json.loads(swarmctl("doctor", "--json").out)["items"]
        return next(one for one in rows if one["id"] == "machine.python")

    row = said(PYENV, HOME)
    assert (row["ok"], row["severity"]) == (False, "info")
    assert "built without optimisations" in row["detail"]
    assert "PYTHON_CONFIGURE_OPTS='--enable-optimizations --with-lto' pyenv install 3." in row["fix"]
    assert said(DEBIAN, "/usr")["ok"] is True


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("said", "hinted"), [("plain", True), ("optimised", False), (None, False)])
def test_setting_up_with_a_plain_build_says_so_and_goes_on(
    tmp_path: Path, said: str | None, hinted: bool
) -> None:
    """The Python says ``said`` of itself, or fails where it is asked; its venv is a directory."""
    answer = "exit 7" if said is None else f"echo {said}"
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in\n*interpreter_here*) {answer};;\n"-m venv"*) mkdir "$3";;\n'
        f'*) exec {sys.executable} "$@";;\nesac\n'
    )
    python.chmod(0o755)
    made = tmp_path / "venv"
    done = subprocess.run(
        ["make", "-s", f"VENV={made}", f"PYTHON={python}", f"{made}/bin/python"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        env={name: value for name, value in os.environ.items() if "MAKE" not in name},
    )  # fmt: skip
    assert (done.returncode, done.stderr, made.is_dir()) == (0, "", True)
    assert ("make clean demo PYTHON=" in done.stdout) is hinted
