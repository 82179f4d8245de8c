"""Sidecars with every feature on: slots, access log, metrics, and spans of one request in a hundred.

Nothing of the request path is off that a careful operator would turn on. Run as a script it is the collector
that takes the spans: ``python bench/features.py`` prints its port.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
from pathlib import Path

from load import drive
from targets import Started, Target, UnavailableError, free_port, hop, sidecar

SLOTS = 64
SAMPLED = 0.01


def collector(run: Started) -> int:
    """The port of something that takes spans and throws them away."""
    process = run.run("collector", sys.executable, str(Path(__file__)), stdout=subprocess.PIPE)
    if process.stdout is None:
        raise UnavailableError("no output")
    return int(process.stdout.readline())


def flags(run: Started, name: str, spans: int, backends: tuple[int, ...] = ()) -> list[str]:
    """Of the sidecar called ``name`` that serves ``backends`` and sends its spans to the port ``spans``."""
    values = {
        "log.access": str(run.scratch / f"{name}.access"),
        "telemetry.otlp.endpoint": f"http://127.0.0.1:{spans}",
        "telemetry.otlp.sample_ratio": str(SAMPLED),
        "telemetry.metrics_listen": f"127.0.0.1:{free_port()}",
    }
    if backends:
        rows = (
            f'{{url="http://127.0.0.1:{port}",name="b{n}",slots={SLOTS}}}' for n, port in enumerate(backends)
        )
        values["backends"] = f"[{','.join(rows)}]"
    return [flag for key, value in values.items() for flag in ("--set", f"{key}={value}")]


def full(run: Started, spans: int, backend: int) -> Target:
    """One endpoint."""
    return sidecar(run, name="full", flags=flags(run, "full", spans, (backend,)))


def choice(run: Started, spans: int, backend: int, other: int) -> Target:
    """Two endpoints, so that every request is weighed, with its prompt, its session and two breakers."""
    return sidecar(run, name="choice", flags=flags(run, "choice", spans, (backend, other)))


def crossing(run: Started, spans: int, backend: int) -> Target:
    """Two sidecars and mutual TLS between them."""
    return hop(run, flags_a=flags(run, "a", spans), flags_b=flags(run, "b", spans, (backend,)))


def warm(targets: list[Target]) -> None:
    """Let everything be loaded that is loaded late, such as what sends spans."""
    for target in targets:
        drive(target.port, "chat", 4, 1.0)


class Taker(http.server.BaseHTTPRequestHandler):
    """Says yes to every export."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take it."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base calls it so
        """Say nothing."""


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    print(server.server_port, flush=True)
    server.serve_forever()
