"""Hosts that find each other on a network: by mDNS, by a scan, by address."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.hosts import eventually
from tests.e2e.lan import Terminal, address_of, curl, lan, on_terminal

pytestmark = [pytest.mark.process, pytest.mark.root, pytest.mark.timeout(240)]

QUIET_START_S = 4.0
"""A founder is ready in so long on two cores that have nothing else to do."""


def _ready(terminal: Terminal, within_s: float = 60) -> str:
    eventually("it is ready", lambda: "ready:" in terminal.text(), within_s=within_s)
    if not terminal.ready_s:
        terminal.ready_s = time.monotonic()
    return terminal.text()


def _token(founder: Terminal) -> str:
    found = eventually(
        "a token was printed", lambda: re.search(r"swp1\.[a-z0-9.]+", founder.text()), within_s=20
    )
    return str(found.group(0))


def _peers(namespace: str, home: Path) -> dict[str, dict[str, object]]:
    """By name, as a host sees them."""
    swarmctl = str(Path(sys.executable).parent / "swarmctl")
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, swarmctl, "peers", "--json", "--within", "3",
         "--data-dir", str(home / "data" / "swarmplane")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return {one["name"]: one for one in json.loads(done.stdout)["items"]}


def _form_within(limit_s: float, founder: Terminal, *joining: Terminal) -> None:
    """Wait until all are ready: from the first command to the last node it takes at most ``limit_s``.

    So it is on a machine that has nothing else to do; how busy this one is, the founder's own start tells.
    """
    for terminal in joining:
        _ready(terminal)
    took_s = time.monotonic() - min(terminal.started_s for terminal in joining)
    busy = max((founder.ready_s - founder.started_s) / QUIET_START_S, 1.0)
    print(f"{len(joining)} hosts joined in {took_s:.1f} s (limit {limit_s:g} s, {busy:.1f} times as busy)")  # noqa: T201
    assert took_s <= limit_s * busy


@pytest.mark.parametrize(
    ("multicast", "scanned", "limit_s"),
    [
        pytest.param(True, True, 10, id="mdns"),
        pytest.param(False, True, 25, id="scan"),
        pytest.param(False, False, 25, id="by-address"),
    ],
)
def test_a_token_alone_finds_its_swarm(
    tmp_path: Path, multicast: bool, scanned: bool, limit_s: float
) -> None:
    # A scan asks client listeners.
    hidden = "" if scanned else " --listen 127.0.0.1:11400"
    with (
        lan(3, multicast=multicast) as hosts,
        on_terminal(hosts[0], f"swarmctl up --lan --no-discover --name a --new{hidden}", tmp_path / "a") as a,
    ):
        _ready(a)
        token = tmp_path / "token"
        token.write_text(_token(a))
        where = "" if scanned else f" {address_of(1)}"
        join = f"swarmctl join{where} --token-file {token} --no-discover"
        with (
            on_terminal(hosts[1], f"{join} --name b", tmp_path / "b") as b,
            on_terminal(hosts[2], f"{join} --name c", tmp_path / "c") as c,
        ):
            _form_within(limit_s, a, b, c)
            if not scanned:
                return
            for member in (b, c):
                text = member.text()
                assert f"at {address_of(1)}:11405" in text
                assert ("asking every address" in text) is not multicast
            found = _peers(hosts[1], tmp_path / "b")
            # Members that take no requests of other machines are told of by mDNS alone.
            assert found.keys() == ({"a", "c"} if multicast else {"a"})
            assert all(one["reachable"] and one["own_swarm"] for one in found.values())


def test_an_open_swarm_takes_every_host_until_it_is_closed(tmp_path: Path) -> None:
    with (
        lan(4) as hosts,
        on_terminal(hosts[0], "swarmctl up --lan --open --no-discover --name a", tmp_path / "a") as a,
    ):
        _ready(a)
        eventually("it says that it is open", lambda: "this swarm is open" in a.text(), within_s=20)
        with (
            on_terminal(hosts[1], "swarmctl join --yes --no-discover --name b", tmp_path / "b") as b,
            on_terminal(hosts[2], "swarmctl up --lan --no-discover --name c", tmp_path / "c") as c,
        ):
            _form_within(10, a, b, c)
            for member in (b, c):
                assert "joined: swarm swarm as node" in member.text()
            swarmctl = str(Path(sys.executable).parent / "swarmctl")
            data = ("--data-dir", str(tmp_path / "a" / "data" / "swarmplane"))
            run = ["ip", "netns", "exec", hosts[0], swarmctl]
            subprocess.run([*run, "enrolment", "close", *data], check=True, capture_output=True, timeout=60)
            with on_terminal(hosts[3], "swarmctl up --lan --no-discover --name d", tmp_path / "d") as d:
                eventually("it ended", lambda: d.process.poll() is not None, within_s=60)
                assert d.process.returncode == 2
                assert f"swarmctl join {address_of(1)}:11405 --token-file FILE" in d.text()


def test_hosts_that_start_at_once_end_in_one_swarm(tmp_path: Path) -> None:
    with lan(3) as hosts, contextlib.ExitStack() as running:
        up = "swarmctl up --lan --open --no-discover"
        started = [
            running.enter_context(on_terminal(host, f"{up} --name h{number}", tmp_path / f"h{number}"))
            for number, host in enumerate(hosts)
        ]
        for terminal in started:
            _ready(terminal, within_s=120)
        assert len({json.loads(curl(host, "/.well-known/swarmplane"))["swarm"] for host in hosts}) == 1
