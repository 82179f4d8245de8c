"""A sidecar tells how far its clock is from that of the instance that welcomed it; the doctor judges it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.doctor.checks.credentials import Skew, judge_skew
from controlplane.rpc import sidecar as servicer
from sidecar.control import stream as controlstream
from tests.fakes.authority import until
from tests.fakes.control import running_plane
from tests.fakes.streams import sidecar


async def test_a_clock_that_is_behind_is_seen_and_so_is_one_that_is_set_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "time", SimpleNamespace(time=lambda: time.time() + 90))
    async with running_plane(tmp_path / "cp") as plane:
        _, one = await plane.node("one")
        async with sidecar(tmp_path / "1", one, str(plane.servers.control_bound)) as host:
            assert host.stream.state()["clock_ahead_s"] is None
            await until(lambda: host.stream.connected)
            verdict = judge_skew(Skew(host.stream.state()["clock_ahead_s"], 0.0))
            assert (verdict.ok, verdict.detail.startswith("1m behind")) == (False, True)
            assert "timedatectl set-ntp true" in verdict.fix

            monkeypatch.setattr(controlstream, "time", SimpleNamespace(time=lambda: time.time() + 88))
            assert judge_skew(Skew(host.stream.state()["clock_ahead_s"], 0.0)).ok, "it was set right"
