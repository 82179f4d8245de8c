"""``swarmctl doctor`` on files that are broken for real: settings, certificates, models, names."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.doctor import trips
from cli.doctor.check import SkippedError
from cli.doctor.checks import ALL
from cli.doctor.checks.network import Trips
from cli.doctor.examine import Progress
from cli.doctor.progress import line
from swarmplane.credentials.authority import found_authority, issue
from swarmplane.credentials.files import Credential, save_credential
from swarmplane.credentials.keys import new_private_key, private_key_to_pem
from swarmplane.credentials.names import node_subject
from swarmplane.datadir import DataDir
from swarmplane.identity import NodeRecord, write_record
from swarmplane.ids import NodeId, SwarmId
from tests.cli.conftest import Done

SWARM = SwarmId("swarm")


def _row(swarmctl: Callable[..., Done], check: str) -> Any:
    done = swarmctl("doctor", "--json")
    return next(one for one in json.loads(done.out)["items"] if one["id"] == check)


def _configured(root: Path, text: str) -> None:
    (root / "config.toml").write_text(text)


@pytest.mark.breaks("network.admin")
def test_an_admin_listener_that_others_reach_is_found(swarmctl: Callable[..., Done], tmp_path: Path) -> None:
    _configured(tmp_path, '[admin]\nlisten = "0.0.0.0:0"\n')
    row = _row(swarmctl, "network.admin")
    assert (row["ok"], "0.0.0.0:0" in row["detail"]) == (False, True)
    assert "--admin-listen 127.0.0.1:11402" in row["fix"]


@pytest.mark.breaks("network.exposed")
def test_clients_without_keys_are_found_and_those_with_keys_are_not(
    swarmctl: Callable[..., Done], tmp_path: Path
) -> None:
    _configured(tmp_path, "[node]\nlan = true\n")
    row = _row(swarmctl, "network.exposed")
    assert (row["ok"], "0.0.0.0:11400" in row["detail"]) == (False, True)
    assert "swarmctl key create" in row["fix"]
    _configured(tmp_path, '[node]\nlan = true\n[client]\nauth = "lan"\n')
    assert _row(swarmctl, "network.exposed")["ok"] is True


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.breaks("machine.files")
def test_more_connections_than_files_are_found(swarmctl: Callable[..., Done], tmp_path: Path) -> None:
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] == resource.RLIM_INFINITY:
        pytest.skip("this machine limits nobody")
    _configured(tmp_path, "[client]\nmax_connections = 2000000000\n")
    row = _row(swarmctl, "machine.files")
    assert (row["ok"], "2,000,000,512" in row["detail"]) == (False, True)
    assert "ulimit -Hn" in row["fix"]


@pytest.mark.breaks("models.memory")
def test_a_model_that_is_larger_than_this_machine_is_found(
    swarmctl: Callable[..., Done], tmp_path: Path
) -> None:
    model = tmp_path / "huge.gguf"
    with model.open("wb") as file:
        file.truncate(8 << 40)
    _configured(tmp_path, f"[engine]\nmodels = [{json.dumps(str(model))}]\n")
    row = _row(swarmctl, "models.memory")
    assert (row["ok"], "8192.0 GiB" in row["detail"]) == (False, True)
    assert "smaller models" in row["fix"]


def _member(root: Path, *, control: str, issued_s: float, lifetime_s: float) -> None:
    """A host that joined a swarm, with a certificate as asked for."""
    authority, key, node = found_authority(SWARM, time.time() - 10_000), new_private_key(), NodeId("node")
    certificate = issue(
        authority, key.public_key(), node_subject(node, SWARM), issued_s, lifetime_s=lifetime_s
    )
    data_dir = DataDir(root)
    save_credential(
        data_dir.node, Credential(authority.certificate_pem, certificate, private_key_to_pem(key))
    )
    write_record(data_dir, NodeRecord(node, "me", SWARM, "home", (control,), ()))


@pytest.mark.breaks("trust.certificates", "control.reachable")
def test_a_certificate_that_ended_is_found(swarmctl: Callable[..., Done], tmp_path: Path) -> None:
    _member(tmp_path, control="127.0.0.1:1", issued_s=time.time() - 600, lifetime_s=60)
    row = _row(swarmctl, "trust.certificates")
    assert (row["ok"], row["severity"]) == (False, "error")
    assert "this node's ended 9m ago" in row["detail"]
    assert "swarmctl up renews" in row["fix"]
    reached = _row(swarmctl, "control.reachable")
    assert (reached["ok"], reached["severity"]) == (False, "error")


@pytest.mark.breaks("trust.clock")
def test_a_clock_that_is_ahead_is_found(swarmctl: Callable[..., Done], tmp_path: Path) -> None:
    """The certificate came now by this clock, and ten minutes ago by that of who issued it."""
    _member(tmp_path, control="127.0.0.1:1", issued_s=time.time() - 600, lifetime_s=600_000)
    row = _row(swarmctl, "trust.clock")
    assert (row["ok"], row["severity"]) == (False, "warning")
    assert row["detail"].startswith("10m ahead of the control plane's, as of ")
    assert "timedatectl set-ntp true" in row["fix"]


def test_a_sidecar_that_hangs_is_no_cable_that_loses_large_packets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its system goes on taking connections; nothing ever comes back on them."""
    monkeypatch.setattr(trips, "ANSWER_S", 0.3)
    monkeypatch.setattr(trips, "_ALERT_S", 0.3)
    _member(tmp_path, control="127.0.0.1:1", issued_s=time.time(), lifetime_s=6_000)
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        place = f"127.0.0.1:{hangs.getsockname()[1]}"
        node = {"id": "other", "name": "b", "peer_addresses": [place]}
        found = Trips(*trips.travel([node], DataDir(tmp_path).node))
    checks = {check.id: check for check in ALL}
    verdict = checks["network.peers"].judge(found)
    assert (verdict.ok, verdict.detail) == (False, f"b at {place}: {trips.HANGS}")
    assert verdict.fix == "see why there: swarmctl doctor, swarmctl logs; then: swarmctl restart"
    with pytest.raises(SkippedError):
        checks["network.mtu"].judge(found)


@pytest.mark.breaks("control.names")
def test_a_control_plane_whose_name_nobody_knows_is_found(
    swarmctl: Callable[..., Done], tmp_path: Path
) -> None:
    _member(tmp_path, control="no-such-host.invalid:11401", issued_s=time.time(), lifetime_s=6_000)
    row = _row(swarmctl, "control.names")
    assert (row["ok"], row["severity"]) == (False, "error")
    assert "no-such-host.invalid" in row["detail"]
    assert "swarmctl join ADDRESS" in row["fix"]


def test_progress_names_what_is_waited_for() -> None:
    assert line(Progress(3, 9, ("a.b", "a.c"))) == "examining 3/9: a.b, a.c"
    assert line(Progress(0, 9, ("a", "b", "c", "d", "e"))) == "examining 0/9: a, b, c and 2 more"
    assert line(Progress(9, 9, ())) == "examining 9/9"
