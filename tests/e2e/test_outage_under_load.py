"""No instance for a while, and a node dies meanwhile: no request fails, and the return is calm.

With ``OUTAGE=full`` in the environment nobody is there for two minutes (CONTRIBUTING).
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually
from tests.e2e.instances import Instance
from tests.e2e.load import Load
from tests.e2e.store_counts import revision
from tests.store.etcd_server import WITHOUT, Etcd, etcd_binary, running

DOWN_S = 120.0 if os.environ.get("OUTAGE") == "full" else 15.0
MODEL = "twice-there"
WRITES_OF_A_RETURN = 12
"""For each node, at most: its session, inventory and routes, and what instances and controller write."""

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(400),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
]


class Fleet:
    """Two instances; two hosts that serve the model and one that is asked."""

    def __init__(self, root: Path, etcd: Etcd, swarm: Swarm, backends: list[Backend]) -> None:
        self.etcd = etcd
        self.instances = [Instance(root, name, etcd.endpoints) for name in ("i1", "i2")]
        self.root, self.backends = root, backends
        self.entry, self.stays, self.dies = (swarm.host(name) for name in ("entry", "stays", "dies"))

    def start(self) -> None:
        first, second = self.instances
        first.start()
        second.start("--swarm-secret-file", str(first.data_dir / "controlplane" / "swarm-secret"))
        flags = ([], *(["--backend", backend.url] for backend in self.backends))
        for host, more in zip(self.hosts, flags, strict=True):
            path = self.root / f"{host.name}.token"
            path.write_text(first.token())
            host.start(["join", second.join_address, "--token-file", str(path)], *more, founder=False)
        eventually("the entry knows both", lambda: len(self.served()) == 2)

    @property
    def hosts(self) -> tuple[Host, Host, Host]:
        return self.entry, self.stays, self.dies

    def served(self) -> set[str]:
        """Nodes that serve the model, as the entry sees them."""
        items = self.entry.get("/endpoints", admin=True)["items"]
        return {item["node"] for item in items if item["model"] == MODEL}

    def states(self) -> dict[str, str]:
        return {node["name"]: node["state"] for node in self.instances[0].json("node", "list")["items"]}


@pytest.fixture
def fleet(tmp_path: Path, swarm: Swarm) -> Iterator[Fleet]:
    backends = [Backend(MODEL), Backend(MODEL)]
    with running(1) as etcd:
        fleet = Fleet(tmp_path, etcd, swarm, backends)
        try:
            fleet.start()
            yield fleet
        finally:
            swarm.close()
            for instance in fleet.instances:
                instance.close()
            for backend in backends:
                backend.close()


def connected(host: Host) -> bool:
    return bool(host.get("/control", admin=True)["connected"])


def test_nobody_notices_that_all_instances_are_away_while_a_node_dies(fleet: Fleet) -> None:
    with Load(fleet.entry, MODEL) as load:
        time.sleep(1)
        for instance in fleet.instances:
            instance.kill()
        down_s = time.monotonic()
        eventually("the sidecar says so", lambda: not connected(fleet.entry))
        time.sleep(2)
        family = fleet.dies.family()
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=5)
        at_death = len(load.answers)
        time.sleep(DOWN_S - (time.monotonic() - down_s))
        told = fleet.entry.get("/control", admin=True)
        during, before = len(load.answers), revision(fleet.etcd)
        for instance in fleet.instances:
            instance.start()
        back_s = time.monotonic()
        eventually("both are back", lambda: connected(fleet.entry) and connected(fleet.stays), within_s=60)
        _tell("seconds until both were connected again", time.monotonic() - back_s)
        time.sleep(5)
        written = revision(fleet.etcd) - before
        states = fleet.states()
    _tell("requests during the outage", during)
    _tell("store writes of the return", written)
    assert told["table_age_s"] >= DOWN_S / 2
    assert told["reason"]
    assert not load.failures, Counter(load.failures).most_common(3)
    # Whoever found it dead tells the others on this host: a probe now and then is all that it costs.
    late = sorted(load.attempts[at_death + 20 :])
    _tell("requests that needed a second attempt", sum(n > 1 for n in late))
    _tell("slowest request", max(load.took_s))
    assert sum(n > 1 for n in late) <= 0.05 * len(late) + 5
    assert states["entry"] == states["stays"] == "live", "nobody was removed who lives"
    assert written <= WRITES_OF_A_RETURN * len(fleet.hosts)


def _tell(what: str, number: float) -> None:
    """For who runs it with -s: nothing is asserted of a machine's speed."""
    sys.stdout.write(f"{what}: {number:.2f}\n")
