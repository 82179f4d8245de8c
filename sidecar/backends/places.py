"""Where inference servers of this machine may listen: pure reading of settings and environment."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from sidecar.backends.target import BackendSpec
from swarmplane.errors import InvalidRequestError

LOOPBACK: Final = "127.0.0.1"
OLLAMA_PORT: Final = 11434
PORT_VARIABLES: Final = (
    "OLLAMA_PORT",
    "VLLM_PORT",
    "SGLANG_PORT",
    "LLAMA_ARG_PORT",
    "LLAMA_SERVER_PORT",
    "LMSTUDIO_PORT",
    "LM_STUDIO_PORT",
    "LOCALAI_PORT",
    "OMLX_PORT",
    "MLX_PORT",
)
"""Variables that name the port of a server; what they do not name is not guessed."""
_UNSPECIFIED: Final = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}
_SCHEME_PORTS: Final = {"http": 80, "https": 443}
_MOST_PORT: Final = 65_535


def places(
    environ: Mapping[str, str],
    ports: Iterable[int],
    *,
    own_ports: Collection[int] = (),
    ignored: Collection[str] = (),
) -> tuple[BackendSpec, ...]:
    """Where to look, each place once: as the environment says, then at ``ports`` of the loopback.

    Args:
        environ: Variables; what they say wrongly is left out.
        ports: Where servers listen by default.
        own_ports: This host's own listeners, which are no backends.
        ignored: Names and ``host:port`` of what is not wanted.
    """
    found: dict[tuple[str, int], BackendSpec] = {}
    for one in (*_of_environment(environ), *(_at(port, f"port {port}") for port in ports)):
        own = one.place[0] == "" and one.port in own_ports
        if not own and not {one.name, f"{one.host}:{one.port}"} & set(ignored):
            found.setdefault(one.place, one)
    return tuple(found.values())


def ollama_url(text: str) -> str:
    """``OLLAMA_HOST`` as a URL that can be called, read as Ollama itself reads it. Empty: it is none."""
    scheme, separator, rest = text.strip().strip("\"'").rpartition("://")
    default = _SCHEME_PORTS.get(scheme, OLLAMA_PORT) if separator else OLLAMA_PORT
    try:
        parts = urlsplit(f"//{rest}")
        host = parts.hostname or ""
    except ValueError:
        return ""
    try:
        port = parts.port or default
    except ValueError:
        port = default
    host = _UNSPECIFIED.get(host, host)
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme or 'http'}://{bracketed}:{port}{parts.path.rstrip('/')}"


def _of_environment(environ: Mapping[str, str]) -> Iterable[BackendSpec]:
    named = environ.get("OLLAMA_HOST", "").strip()
    if named:
        with contextlib.suppress(InvalidRequestError):
            yield replace(BackendSpec.from_url(ollama_url(named)), found="OLLAMA_HOST")
    for variable in PORT_VARIABLES:
        text = environ.get(variable, "").strip()
        if text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_PORT:
            yield _at(int(text), variable)


def _at(port: int, how: str) -> BackendSpec:
    return replace(BackendSpec.from_url(f"http://{LOOPBACK}:{port}"), found=how)
