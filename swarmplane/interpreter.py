"""How the Python that runs this was built: a request's own code costs half as much again with some.

Needs the standard library only: the Makefile asks before anything is installed.
"""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

Build: TypeAlias = Literal["optimised", "plain", "distribution", "debug", "free-threaded", "unknown"]
"""``plain``: configured without profile-guided optimisation, as pyenv and asdf do unless told otherwise."""
WORDS: Final[Mapping[Build, str]] = {
    "optimised": "an optimised build",
    "plain": "built without optimisations",
    "distribution": "of a distribution",
    "debug": "a debug build",
    "free-threaded": "a free-threaded build",
    "unknown": "of an unknown build",
}

_SWITCH: Final = re.compile(r"--(enable|disable)-optimizations(?:=(\w+))?(?![\w-])")
_HALFWAY: Final = re.compile(r"--with-lto|--enable-bolt|-flto|-fprofile-use")
"""Part of it: what is cross-compiled (uv's for some machines, conda's) can't be profiled, and is no worse."""
_PACKAGED: Final = ("/usr/", "/nix/", "/gnu/", "/opt/local/", "/data/data/", "/snap/")
"""Where Linux, NixOS, Guix, MacPorts, Termux and Snap put theirs: some of them profile by rules of their own
(Debian), and their users have no other at hand."""
_OWN: Final = "/usr/local/"
"""What people build themselves lands here, but for the BSDs, where packages do."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python."""

    version: str
    """As ``3.11.7``."""
    build: Build

    def __str__(self) -> str:
        """As people read it beside figures."""
        return f"Python {self.version}, {WORDS[self.build]}"


def build_of(
    config: Mapping[str, object], prefix: str, system: str = "linux", *, conda: bool = False
) -> Build:
    """What is known of a build, never ``plain`` where it may be another.

    Args:
        config: ``sysconfig.get_config_vars()`` of a CPython, ``{}`` of another; Windows' has no CONFIG_ARGS.
        prefix: Where it is installed: ``sys.base_prefix``, since that of the build may be a placeholder.
        system: ``sys.platform``.
        conda: It is a package of conda's.
    """
    if config.get("Py_DEBUG"):
        return "debug"
    if config.get("Py_GIL_DISABLED"):
        return "free-threaded"
    arguments = config.get("CONFIG_ARGS")
    if not isinstance(arguments, str):
        return "unknown"
    switches = _SWITCH.findall(arguments)
    if switches and switches[-1][0] == "enable" and switches[-1][1] != "no":
        return "optimised"
    if conda or _packaged(f"{prefix}/", system):
        return "distribution"
    return "unknown" if _HALFWAY.search(arguments) else "plain"


def _packaged(prefix: str, system: str) -> bool:
    own = prefix.startswith(_OWN) and system in {"linux", "darwin"}
    return prefix.startswith(_PACKAGED) and not own


def interpreter_here() -> Interpreter:
    """The Python that runs this; it reads one file of the standard library, once."""
    cpython = sys.implementation.name == "cpython"
    build = build_of(
        sysconfig.get_config_vars() if cpython else {},
        sys.base_prefix,
        sys.platform,
        conda=Path(sys.base_prefix, "conda-meta").is_dir(),
    )
    return Interpreter(platform.python_version(), build)
