"""A join that must not work: its own clear message, nothing left behind, no secret given away."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.hosts import Host, Swarm, swarmctl

Refuse = Callable[..., str]

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def founder(shared_swarm: Swarm) -> Host:
    host = shared_swarm.host("a")
    host.up()
    return host


def _nodes(host: Host) -> set[tuple[str, str]]:
    return {(node["id"], node["name"]) for node in host.json("node", "list")["items"]}


@pytest.fixture
def refuse(founder: Host, tmp_path: Path) -> Refuse:
    """Try to join; the words of the refusal."""

    def attempt(token: str, address: str = "") -> str:
        before = _nodes(founder)
        file = tmp_path / "token"
        file.write_text(token)
        file.chmod(0o600)
        data_dir = tmp_path / "joiner"
        done = swarmctl(
            "join",
            address or f"127.0.0.1:{founder.ports['join']}",
            "--token-file",
            str(file),
            "--enroll-only",
            data_dir=data_dir,
        )
        assert done.returncode in {1, 2, 75}, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert _nodes(founder) == before, "nothing left behind in the swarm"
        left = [p for p in data_dir.rglob("*") if p.is_file() and p.name not in {"lock", "config.toml"}]
        assert not left, "nothing left behind on the host"
        return done.stderr

    return attempt


def _changed_secret(token: str) -> str:
    prefix, token_id, secret, fingerprint = token.split(".")
    return ".".join([prefix, token_id, ("b" if secret[0] == "a" else "a") + secret[1:], fingerprint])


def test_a_wrong_secret(founder: Host, refuse: Refuse) -> None:
    assert "wrong" in refuse(_changed_secret(founder.token())).lower()


def test_an_unknown_token(founder: Host, refuse: Refuse) -> None:
    prefix, _, secret, fingerprint = founder.token().split(".")
    assert "swarmctl token create" in refuse(f"{prefix}.aaaaaaaaaaaaa.{secret}.{fingerprint}")


def test_text_that_is_no_token(refuse: Refuse) -> None:
    assert "swp1." in refuse("hello")


def test_an_expired_token(founder: Host, refuse: Refuse) -> None:
    token = founder.token("--ttl", "1s")
    time.sleep(2.1)
    assert "expired" in refuse(token)


def test_a_used_up_token(founder: Host, refuse: Refuse, tmp_path: Path) -> None:
    token = founder.token("--uses", "1")
    file = tmp_path / "good"
    file.write_text(token)
    file.chmod(0o600)
    address = f"127.0.0.1:{founder.ports['join']}"
    done = swarmctl(
        "join",
        address,
        "--token-file",
        str(file),
        "--enroll-only",
        "--name",
        "first",
        data_dir=tmp_path / "first",
    )
    assert done.returncode == 0, done.stderr
    assert "used" in refuse(token)


def test_a_revoked_token(founder: Host, refuse: Refuse) -> None:
    token = founder.token()
    assert founder.ctl("token", "revoke", token.split(".")[1]).returncode == 0
    assert "revoked" in refuse(token)


def test_a_fingerprint_of_another_authority(founder: Host, refuse: Refuse) -> None:
    prefix, token_id, secret, fingerprint = founder.token().split(".")
    other = fingerprint[:-4] + ("aaaa" if fingerprint[-4:] != "aaaa" else "bbbb")
    token = f"{prefix}.{token_id}.{secret}.{other}"
    assert "fingerprint" in refuse(token).lower()
    assert next(t for t in founder.json("token", "list")["items"] if t["id"] == token_id)["used"] == 0


def test_another_swarm_is_an_impostor(founder: Host, refuse: Refuse, swarm: Swarm) -> None:
    impostor = swarm.host("x")
    impostor.up()
    words = refuse(founder.token(), f"127.0.0.1:{impostor.ports['join']}")
    assert "fingerprint" in words.lower()


def test_nobody_listens(founder: Host, refuse: Refuse) -> None:
    from tests.e2e.hosts import free_ports

    words = refuse(founder.token(), f"127.0.0.1:{free_ports(1)[0]}")
    assert "127.0.0.1" in words
