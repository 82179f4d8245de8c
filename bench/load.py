"""Load for a bounded time: ``wrk`` where it is installed, else a generator of our own in its own process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = {"chat": HERE / "chat.lua", "stream": HERE / "chat_stream.lua"}
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


@dataclass(frozen=True)
class Load:
    """What one run did."""

    requests: int
    per_second: float
    p50_us: float
    p99_us: float
    errors: str = ""


def has_wrk() -> bool:
    """Whether the better generator is installed."""
    return shutil.which("wrk") is not None


def drive(port: int, workload: str, connections: int, seconds: float) -> Load:
    """Ask ``127.0.0.1:port`` as fast as ``connections`` clients can, each one request at a time.

    Args:
        port: Where the target listens.
        workload: One of :data:`SCRIPTS`, or the path of another script like those.
        connections: How many at a time.
        seconds: For how long.
    """
    if has_wrk():
        return _wrk(port, workload, connections, seconds)
    done = subprocess.run(
        [sys.executable, __file__, str(port), workload, str(connections), str(seconds)],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    return Load(**json.loads(done.stdout))


def _wrk(port: int, workload: str, connections: int, seconds: float) -> Load:
    done = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--latency",
            "--timeout",
            "30s",
            "-s",
            str(_script(workload)),
            f"http://127.0.0.1:{port}/",
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    text = done.stdout
    counted = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    latency = {
        share: float(n) * _UNITS[unit]
        for share, n, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s|m)", text)
    }
    errors = "; ".join(re.findall(r"(Non-2xx.*|Socket errors.*)", text))
    return Load(
        int(counted[1]) if counted else 0,
        float(rate[1]) if rate else 0.0,
        latency.get("50", 0.0),
        latency.get("99", 0.0),
        errors,
    )


def _script(workload: str) -> Path:
    return SCRIPTS.get(workload) or Path(workload)


def _request(workload: str) -> bytes:
    """The request of the wrk script, so that both generators ask the same."""
    script = _script(workload).read_text()
    found = re.search(r"wrk\.body='(.*)'", script)
    body = found[1].encode() if found else b"{}"
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


async def _client(port: int, request: bytes, ends_s: float, took_us: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        while time.perf_counter() < ends_s:
            started_s = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, sized, rest = head.partition(b"content-length: ")
            if sized:
                await reader.readexactly(int(rest.partition(b"\r\n")[0]))
            else:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            took_us.append((time.perf_counter() - started_s) * 1e6)


async def _own(port: int, workload: str, connections: int, seconds: float) -> Load:
    took_us: list[float] = []
    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_client(port, _request(workload), started_s + seconds, took_us))
    spent_s = time.perf_counter() - started_s
    took_us.sort()
    count = len(took_us)
    return Load(count, count / spent_s, took_us[count // 2], took_us[count * 99 // 100])


if __name__ == "__main__":
    arguments = sys.argv[1:]
    load = asyncio.run(_own(int(arguments[0]), arguments[1], int(arguments[2]), float(arguments[3])))
    print(json.dumps(load.__dict__))
