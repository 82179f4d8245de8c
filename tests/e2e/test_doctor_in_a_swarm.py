"""``swarmctl doctor`` in a swarm whose parts are broken for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hosts import Host, Swarm, eventually, free_ports

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


def _rows(host: Host) -> dict[str, Any]:
    return {row["id"]: row for row in json.loads(host.ctl("doctor", "--json").stdout)["items"]}


def test_what_breaks_in_a_swarm_is_found(tmp_path: Path) -> None:
    swarm = Swarm(tmp_path)
    try:
        (closed,) = free_ports(1)
        a, b = swarm.pair("--backend", f"http://127.0.0.1:{closed}")
        eventually("both are live", lambda: _rows(a)["nodes.live"]["ok"], every_s=0.5)
        rows = _rows(a)
        assert rows["network.peers"]["ok"] is True
        assert rows["network.mtu"]["ok"] is True
        row = rows["nodes.backends"]
        assert (row["ok"], "on b" in row["detail"]) == (False, True)
        assert "--backend URL" in row["fix"]

        a.close()
        rows = _rows(b)
        assert rows["control.reachable"]["ok"] is False
        assert rows["control.stream"]["ok"] is False
        assert rows["control.stream"]["fix"].startswith("see control.reachable")

        b.close()
        b.start(["up"], founder=False)
        row = _rows(b)["control.table"]
        assert (row["ok"], "from disk" in row["detail"]) == (False, True)
        assert "control.reachable" in row["fix"]
    finally:
        swarm.close()
