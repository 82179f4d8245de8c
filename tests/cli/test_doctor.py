"""``swarmctl doctor``: how facts are gathered, and what comes out; a few things broken for real."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.doctor.check import Check, SkippedError, Source, Verdict, bad, good
from cli.doctor.checks import ALL
from cli.doctor.checks.credentials import judge_skew, skew_of
from cli.doctor.examine import examine
from cli.doctor.host import ExaminedHost, examined
from cli.invocation import Invocation
from swarmplane.errors import UnavailableError
from tests.cli.conftest import Done
from tests.e2e.hosts import Host, Swarm

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and rights are POSIX")


def _judge(fact: str) -> Verdict:
    return bad(fact, "mend it") if fact == "broken" else good(fact)


def _raising(error: Exception) -> Callable[[ExaminedHost], str]:
    def gather(_: ExaminedHost) -> str:
        raise error

    return gather


@pytest.fixture
def host(tmp_path: Path) -> ExaminedHost:
    return examined(Invocation(named_data_dir=tmp_path))


@pytest.mark.parametrize(
    ("gather", "state", "detail"),
    [
        (lambda _: "broken", "failed", "broken"),
        (lambda _: "whole", "ok", "whole"),
        (_raising(SkippedError("no such thing here")), "skipped", "no such thing here"),
        (_raising(UnavailableError("nobody answers")), "unknown", "nobody answers"),
        (_raising(PermissionError(13, "Permission denied")), "unknown", "ermission denied"),
    ],
)
async def test_every_outcome_is_a_row_with_its_reason(
    host: ExaminedHost, gather: Callable[[ExaminedHost], str], state: str, detail: str
) -> None:
    (row,) = await examine(host, [Check("a.b", "it is so", Source(gather=gather), _judge)])
    assert row.state == state
    assert detail in row.detail
    assert bool(row.fix) is (state == "failed")
    assert row.document()["ok"] is {"ok": True, "failed": False}.get(state)


async def test_a_defect_is_no_row(host: ExaminedHost) -> None:
    with pytest.raises(ExceptionGroup) as found:
        await examine(
            host, [Check("a.b", "it is so", Source(gather=_raising(ValueError("a defect"))), _judge)]
        )
    assert found.group_contains(ValueError, match="a defect")


async def test_a_source_that_hangs_holds_neither_others_nor_the_command(host: ExaminedHost) -> None:
    release, asked = threading.Event(), []

    def hang(_: ExaminedHost) -> str:
        asked.append("hang")
        release.wait(50)
        return "whole"

    hung = Source(gather=hang, limit_s=0.2)
    checks = [
        Check("a.hung", "it is so", hung, _judge),
        Check("a.other", "it is so", Source(gather=lambda _: "broken"), _judge),
        Check("a.too", "it is so", hung, _judge),
    ]
    rows = await examine(host, checks)
    assert [row.state for row in rows] == ["unknown", "failed", "unknown"]
    assert rows[0].detail == "no answer within 0.2 s"
    assert asked == ["hang"]
    assert not release.is_set()
    release.set()


@pytest.mark.breaks("host.running")
def test_a_host_that_does_not_run_is_an_error_with_its_fix(swarmctl: Callable[..., Done]) -> None:
    done = swarmctl("doctor", "--json")
    document = json.loads(done.out)
    assert done.status == 1
    assert document["schema"] == "swarmctl.doctor/v1"
    assert (document["ok"], document["errors"]) == (False, sum(_is_error(one) for one in document["items"]))
    assert [one["id"] for one in document["items"]] == [check.id for check in ALL]
    fields = {"id", "name", "group", "title", "ok", "state", "severity", "detail", "fix"}
    assert all(set(one) == fields and one["detail"] for one in document["items"])
    running = _row(document, "host.running")
    assert (running["ok"], running["severity"], running["fix"]) == (
        False,
        "error",
        "start it: swarmctl up -d",
    )
    assert _row(document, "control.stream")["state"] == "skipped"


@pytest.mark.breaks("host.settings")
def test_settings_that_are_wrong_are_told(swarmctl: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[client]\nlisen = 1\n")
    done = swarmctl("doctor")
    assert done.status == 1
    assert "host.settings" in done.out
    assert "lisen" in done.out
    assert "to mend it: correct config.toml or the environment; swarmctl config check" in done.out


@pytest.mark.breaks("network.ports")
def test_a_port_that_another_program_holds_is_found(swarmctl: Callable[..., Done], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "config.toml").write_text(f'[admin]\nlisten = "{address}"\n')
        found = _row(json.loads(swarmctl("doctor", "--json").out), "network.ports")
    if found["state"] == "skipped":
        pytest.skip(found["detail"])
    assert f"{address} (admin) is held by" in found["detail"]
    assert f"(pid {os.getpid()})" in found["detail"]
    assert "--admin-listen HOST:PORT" in found["fix"]


@pytest.mark.breaks("models.engine", "models.memory")
def test_an_engine_and_a_file_that_are_not_there_are_told(
    swarmctl: Callable[..., Done], tmp_path: Path
) -> None:
    binary = json.dumps(str(tmp_path / "no-engine"))
    (tmp_path / "config.toml").write_text(f'[engine]\nmodels = ["no-such-model"]\nbinary = {binary}\n')
    document = json.loads(swarmctl("doctor", "--json").out)
    engine, memory = _row(document, "models.engine"), _row(document, "models.memory")
    assert "no-engine is not installed" in engine["detail"]
    assert "pip install 'swarmplane[engine]'" in engine["fix"]
    assert "no-such-model" in memory["detail"]
    assert "--models-dir DIR" in memory["fix"]


@pytest.fixture(scope="module")
def founder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    swarm = Swarm(tmp_path_factory.mktemp("doctor"))
    one = swarm.host("a")
    one.up()
    try:
        yield one
    finally:
        swarm.close()


@pytest.mark.process
@pytest.mark.timeout(180)
def test_a_founder_that_is_well_has_no_errors(founder: Host) -> None:
    document = founder.json("doctor")
    assert document["ok"] is True
    for check in (
        "host.sidecar",
        "host.controlplane",
        "control.reachable",
        "control.stream",
        "trust.certificates",
    ):
        assert _row(document, check)["ok"] is True, check
    assert _row(document, "store.file")["ok"] is True
    assert _row(document, "trust.clock")["state"] == "skipped"


@POSIX
@pytest.mark.process
@pytest.mark.timeout(180)
@pytest.mark.breaks("host.sidecar", "host.ready", "host.client")
def test_a_sidecar_that_is_frozen_is_found_in_bounded_time(founder: Host) -> None:
    pid = founder.pid("sidecar")
    os.kill(pid, signal.SIGSTOP)
    try:
        done = founder.ctl("doctor", "--json")
    finally:
        os.kill(pid, signal.SIGCONT)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    for check in ("host.sidecar", "host.client"):
        row = _row(document, check)
        assert (row["ok"], row["severity"]) == (False, "error")
        assert row["fix"] == "see why: swarmctl logs; then: swarmctl restart"
    row = _row(document, "host.ready")
    assert (row["ok"], "swarmctl logs" in row["fix"]) == (False, True)
    assert _row(document, "control.stream")["state"] == "unknown"
    assert _row(document, "control.reachable")["ok"] is True


@POSIX
@pytest.mark.process
@pytest.mark.timeout(180)
@pytest.mark.breaks("host.controlplane", "control.reachable")
def test_a_control_plane_that_is_frozen_is_found_in_bounded_time(founder: Host) -> None:
    pid = founder.pid("controlplane")
    os.kill(pid, signal.SIGSTOP)
    try:
        done = founder.ctl("doctor", "--json")
    finally:
        os.kill(pid, signal.SIGCONT)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    row = _row(document, "host.controlplane")
    assert (row["ok"], row["fix"]) == (False, "see why: swarmctl logs; then: swarmctl restart")
    assert "swarmctl join ADDRESS" in _row(document, "control.reachable")["fix"]
    assert _row(document, "nodes.live")["detail"] == "the control plane does not answer"
    assert _row(document, "host.sidecar")["ok"] is True


@POSIX
@pytest.mark.process
@pytest.mark.timeout(180)
@pytest.mark.breaks("trust.keys")
def test_a_key_that_others_can_read_is_found(founder: Host) -> None:
    key = founder.data_dir / "node" / "key.pem"
    key.chmod(0o644)
    try:
        done = founder.ctl("doctor", "--json")
    finally:
        key.chmod(0o600)
    assert done.returncode == 1
    assert _row(json.loads(done.stdout), "trust.keys")["fix"] == f"chmod 600 {key}"


@pytest.mark.process
@pytest.mark.timeout(180)
def test_a_clock_that_is_ahead_is_seen_from_a_certificate(founder: Host) -> None:
    """The certificate says when the control plane issued it, its file when it came here."""
    certificate = founder.data_dir / "node" / "cert.pem"
    before = certificate.stat()
    os.utime(certificate, (before.st_atime, before.st_mtime + 600))
    try:
        verdict = judge_skew(skew_of(certificate))
    finally:
        os.utime(certificate, (before.st_atime, before.st_mtime))
    assert (verdict.ok, verdict.detail[:9]) == (False, "10m ahead")
    assert judge_skew(skew_of(certificate)).ok


def _row(document: Any, check: str) -> Any:
    return next(one for one in document["items"] if one["id"] == check)


def _is_error(one: Any) -> bool:
    return one["ok"] is False and one["severity"] == "error"
