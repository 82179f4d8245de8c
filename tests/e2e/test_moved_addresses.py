"""Hosts whose addresses change while they run or while they are off: the swarm heals by itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosts import eventually
from tests.e2e.lan import curl, lan, move, on_terminal

pytestmark = [pytest.mark.process, pytest.mark.root, pytest.mark.timeout(300)]

HEALED_S = 60.0
ASK = json.dumps({"model": "m1", "messages": [{"role": "user", "content": "hello"}]})
UP = "swarmctl up --lan --no-discover --backend http://127.0.0.1:9000"


@contextlib.contextmanager
def _backend(namespace: str) -> Iterator[None]:
    """A fake inference server with the model ``m1``, on the host itself."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-m", "tests.fakes.backend", "--port", "9000"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def _served(namespace: str) -> bool:
    return '"choices"' in curl(namespace, "/v1/chat/completions", ASK)


def _control(namespace: str) -> dict[str, object]:
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, "curl", "-sS", "-m", "5", "http://127.0.0.1:11402/control"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    with contextlib.suppress(ValueError):
        found: dict[str, object] = json.loads(done.stdout)
        return found
    return {}


def _heals(what: str, *checks: tuple[str, str]) -> None:
    """Each ``(namespace, address)`` is connected to an instance at that address, within 60 s of now."""
    began_s = time.monotonic()
    for namespace, address in checks:
        eventually(
            f"{what}: connected at {address}",
            lambda namespace=namespace, address=address: (
                (state := _control(namespace)).get("connected") and state.get("address") == f"{address}:11401"
            ),
            within_s=HEALED_S,
            every_s=0.5,
        )
    print(f"{what}: healed in {time.monotonic() - began_s:.1f} s")  # noqa: T201


def _identity(home: Path) -> str:
    kept = json.loads((home / "data" / "swarmplane" / "node" / "identity.json").read_text())
    return str(kept["node_id"])


@pytest.mark.parametrize("multicast", [True, False], ids=["mdns", "without-multicast"])
def test_hosts_that_move_are_followed(tmp_path: Path, multicast: bool) -> None:
    with (
        lan(3, multicast=multicast) as (a, b, c),
        _backend(b),
        on_terminal(a, "swarmctl up --lan --open --new --no-discover --name a", tmp_path / "a", ready_s=60),
        on_terminal(
            c, "swarmctl join http://10.77.0.1:11400 --yes --no-discover --name c", tmp_path / "c", ready_s=60
        ),
    ):
        join = "swarmctl join http://10.77.0.1:11400 --yes --no-discover --name b --backend http://127.0.0.1:9000"
        with on_terminal(b, join, tmp_path / "b", ready_s=60):
            eventually("c serves the model of b", lambda: _served(c), within_s=30, every_s=0.5)

            move(b, 52)
            began_s = time.monotonic()
            eventually("c serves it again", lambda: _served(c), within_s=HEALED_S, every_s=0.5)
            print(f"a member moved: served again after {time.monotonic() - began_s:.1f} s")  # noqa: T201

            move(a, 51)
            _heals("the founder moved", (b, "10.77.0.51"), (c, "10.77.0.51"))
            began_s = time.monotonic()
            eventually("a serves the model of b", lambda: _served(a), within_s=HEALED_S, every_s=0.5)
            print(f"and served by the founder after {time.monotonic() - began_s:.1f} s more")  # noqa: T201
            before = _identity(tmp_path / "b")

        # Off, while the founder moves on; it knows its old places only, and may not look at the network.
        move(a, 61)
        _heals("the founder moved once more", (c, "10.77.0.61"))
        with on_terminal(b, "swarmctl up --no-mdns", tmp_path / "b", ready_s=60):
            _heals("a host that was away asks another member", (b, "10.77.0.61"))
            assert _identity(tmp_path / "b") == before
            eventually("c serves the model of b", lambda: _served(c), within_s=HEALED_S, every_s=0.5)
