"""Which program serves a model: what is installed here, in the order of preference."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from swarmplane.errors import FailedPreconditionError

LLAMA_SERVER: Final = "llama-server"
XLLAMACPP: Final = "xllamacpp"
LLAMA_CPP_PYTHON: Final = "llama-cpp-python"
_FLAG: Final = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_SERVER_FILE: Final = Path(__file__).with_name("xllamacpp_server.py")


@dataclass(frozen=True, slots=True)
class Program:
    """Something that serves llama.cpp's HTTP interface."""

    kind: str
    command: tuple[str, ...]
    """Program and first arguments."""
    flags: frozenset[str] = frozenset()
    """Options that a llama-server knows, as its help lists them."""

    @property
    def serial(self) -> bool:
        """Whether it serves one request at a time, and must not be polled while it does."""
        return self.kind == LLAMA_CPP_PYTHON


class Places(Protocol):
    """Where programs may be."""

    def on_path(self, name: str) -> Path | None:
        """The executable ``name`` of PATH."""
        ...

    def package_directory(self, module: str) -> Path | None:
        """The directory that an installed package stands in."""
        ...

    def executable(self, path: Path) -> bool:
        """Whether ``path`` is a program."""
        ...


class Machine:
    """This machine."""

    def on_path(self, name: str) -> Path | None:
        """See :class:`Places`."""
        found = shutil.which(name)
        return None if found is None else Path(found)

    def package_directory(self, module: str) -> Path | None:
        """See :class:`Places`. The package is not imported."""
        spec = importlib.util.find_spec(module)
        return None if spec is None or spec.origin is None else Path(spec.origin).parent.parent

    def executable(self, path: Path) -> bool:
        """See :class:`Places`."""
        return shutil.which(path) is not None


def find_program(kind: str, binary: Path | None, places: Places) -> Program:
    """The program to use; ``kind`` other than ``auto`` takes that kind or none.

    The order: the configured binary, ``llama-server`` on PATH, the same beside llama-cpp-python, xllamacpp,
    and last llama-cpp-python's own server. Its flags are not filled in.

    Raises:
        FailedPreconditionError: None is installed, or the configured one is no program.
    """
    if binary is not None and kind in {"auto", LLAMA_SERVER}:
        if not places.executable(binary):
            raise FailedPreconditionError(f"engine.binary is {binary.name}, which is no program here")
        return Program(LLAMA_SERVER, (str(binary),))
    found = _llama_server(places) if kind in {"auto", LLAMA_SERVER} else None
    if found is not None:
        return Program(LLAMA_SERVER, (str(found),))
    if kind in {"auto", XLLAMACPP} and places.package_directory("xllamacpp") is not None:
        # By path and with -P: nothing beside that file, and nothing in the working directory, is imported.
        return Program(XLLAMACPP, (sys.executable, "-P", str(_SERVER_FILE)))
    if kind in {"auto", LLAMA_CPP_PYTHON} and places.package_directory("llama_cpp") is not None:
        return Program(LLAMA_CPP_PYTHON, (sys.executable, "-P", "-m", "llama_cpp.server"))
    what = "engine" if kind == "auto" else f"engine of kind {kind}"
    raise FailedPreconditionError(
        f"no {what} is installed; install the extra 'swarmplane[engine]', or put llama-server on the PATH"
    )


def _llama_server(places: Places) -> Path | None:
    name = "llama-server.exe" if sys.platform == "win32" else "llama-server"
    found = places.on_path(name)
    if found is not None:
        return found
    packages = places.package_directory("llama_cpp")
    beside = None if packages is None else packages / "bin" / name
    return beside if beside is not None and places.executable(beside) else None


def read_flags(help_text: str) -> frozenset[str]:
    """Long options named in ``llama-server --help``."""
    return frozenset(_FLAG.findall(help_text))
