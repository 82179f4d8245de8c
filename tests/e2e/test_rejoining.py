"""Joining again: a node that was removed, one that is still there, and one of another swarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hosts import Host, Swarm, swarmctl

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def _join(founder: Host, data_dir: Path, token: str) -> tuple[int, str]:
    file = data_dir.parent / "token"
    file.write_text(token)
    file.chmod(0o600)
    address = f"127.0.0.1:{founder.ports['join']}"
    done = swarmctl(
        "join", address, "--token-file", str(file), "--enroll-only", "--name", "c", data_dir=data_dir
    )
    return done.returncode, done.stderr


def test_joining_again(swarm: Swarm, tmp_path: Path) -> None:
    a, x = swarm.host("a"), swarm.host("x")
    a.up()
    x.up()
    data_dir = tmp_path / "c"
    token = a.token("--uses", "3")
    assert _join(a, data_dir, token)[0] == 0
    first = next(n["id"] for n in a.json("node", "list")["items"] if n["name"] == "c")

    status, words = _join(a, data_dir, token)
    assert (status, "goes on there" in words) == (0, True)
    assert {n["id"] for n in a.json("node", "list")["items"] if n["name"] == "c"} == {first}

    status, words = _join(x, data_dir, x.token())
    assert (status, "another swarm" in words) == (1, True)

    identity = (data_dir / "node" / "identity.json").read_bytes()
    other = f"127.0.0.1:{x.ports['join']}"
    told = swarmctl("join", other, data_dir=data_dir)
    assert (told.returncode, "is another swarm" in told.stderr) == (1, True), told.stderr
    keeper = a.ctl("join", other)
    assert (keeper.returncode, "keeps a swarm itself" in keeper.stderr) == (1, True), keeper.stderr
    assert (data_dir / "node" / "identity.json").read_bytes() == identity

    assert a.ctl("node", "remove", "c").returncode == 0
    told = swarmctl("join", f"127.0.0.1:{a.ports['join']}", data_dir=data_dir)
    assert (told.returncode, "was removed" in told.stderr) == (1, True), told.stderr
    status, words = _join(a, data_dir, token)
    assert (status, "was removed" in words) == (0, True), words
    again = {n["id"] for n in a.json("node", "list")["items"] if n["name"] == "c"}
    assert len(again) == 1
    assert again != {first}
