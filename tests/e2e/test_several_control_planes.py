"""Three control planes on three etcd members: any of them may be killed, and nobody notices.

They are processes of their own, apart from the two hosts that serve: one has the model, the other is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually
from tests.e2e.instances import Instance, elections
from tests.e2e.load import Load
from tests.e2e.test_failures import post
from tests.store.etcd_server import WITHOUT, Etcd, etcd_binary, running

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
    pytest.mark.skipif(os.name == "nt", reason="processes are frozen by signals"),
]
MODEL = "slow-model"
NOT_TOO_LATE_S = 20.0
"""For what takes three seconds on a machine that has nothing else to do."""


class Fleet:
    """What the tests of this module share; they leave it whole."""

    def __init__(self, root: Path, etcd: Etcd, swarm: Swarm, backend: Backend) -> None:
        self.root = root
        self.etcd = etcd
        self.backend = backend
        self.instances = [Instance(root, name, etcd.endpoints) for name in ("i1", "i2", "i3")]
        self.serving, self.entry = swarm.host("serving"), swarm.host("entry")

    def start(self) -> None:
        """One founds, one joins with a token, one has the secret; then the hosts, each at another one."""
        first, second, third = self.instances
        first.start()
        token = self.root / "instance.token"
        token.write_text(first.token("--role", "instance"))
        joined = second.ctl(
            "join", first.join_address, "--token-file", str(token), "--enroll-only", *second.etcd
        )
        assert joined.returncode == 0, joined.stderr
        second.start()
        third.start("--swarm-secret-file", str(first.data_dir / "controlplane" / "swarm-secret"))
        self._join(self.serving, second, "--backend", self.backend.url)
        self._join(self.entry, third)
        eventually("the entry serves the model", lambda: post(self.entry, MODEL)[0] == 200)

    def _join(self, host: Host, instance: Instance, *flags: str) -> None:
        path = self.root / f"{host.name}.token"
        path.write_text(instance.token())
        address = instance.join_address
        host.start(["join", address, "--token-file", str(path)], *flags, founder=False)

    def leader(self) -> Instance:
        """The one that decides, as all three say."""

        def agreed() -> Instance | None:
            holders = {one.json("election", "list")["items"][0]["holder"] for one in self.instances}
            found = [one for one in self.instances if {one.id} == holders]
            return found[0] if found else None

        leader: Instance = eventually("all say who decides", agreed, within_s=60)
        return leader

    def streams(self) -> list[Any]:
        """What both hosts say of their control streams."""
        return [control(host) for host in (self.serving, self.entry)]

    def others(self, than: Instance) -> list[Instance]:
        return [one for one in self.instances if one is not than]

    def close(self) -> None:
        for instance in self.instances:
            instance.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = tmp_path_factory.mktemp("fleet")
    backend, swarm = Backend(MODEL), Swarm(root)
    with running(3) as etcd:
        fleet = Fleet(root, etcd, swarm, backend)
        try:
            fleet.start()
            yield fleet
        finally:
            swarm.close()
            fleet.close()
            backend.close()


def control(host: Host) -> Any:
    """What the sidecar of ``host`` says of its stream."""
    return host.get("/control", admin=True)


def test_every_sidecar_knows_every_instance_and_keeps_it_on_disk(fleet: Fleet) -> None:
    control_ports = {one.ports["control"] for one in fleet.instances}
    join_ports = {one.ports["join"] for one in fleet.instances}
    for host in (fleet.serving, fleet.entry):

        def known(key: str, host: Host = host) -> set[int]:
            record = json.loads((host.data_dir / "node" / "identity.json").read_text())
            return {int(address.rpartition(":")[2]) for address in record[key]}

        eventually("control addresses", lambda known=known: known("control_addresses") == control_ports)
        eventually("join addresses", lambda known=known: known("join_addresses") >= join_ports)
    holders = {one.json("election", "list")["items"][0]["holder"] for one in fleet.instances}
    assert holders == {fleet.leader().id}, "all agree who decides"
    nodes = [{n["name"] for n in one.json("node", "list")["items"]} for one in fleet.instances]
    assert nodes == [{"serving", "entry"}] * 3


def test_the_secret_is_with_instances_alone(fleet: Fleet, tmp_path: Path) -> None:
    secret = (fleet.instances[0].data_dir / "controlplane" / "swarm-secret").read_bytes()
    second = fleet.instances[1].data_dir / "controlplane" / "swarm-secret"
    assert second.read_bytes() == secret
    assert second.stat().st_mode & 0o077 == 0
    for host in (fleet.serving, fleet.entry):
        assert not (host.data_dir / "controlplane").exists()
        for path in host.data_dir.rglob("*"):
            assert not path.is_file() or secret not in path.read_bytes(), path

    stranger = Instance(tmp_path, "stranger", fleet.etcd.endpoints)
    token = tmp_path / "token"
    token.write_text(fleet.instances[0].token("--role", "node"))
    join = ("join", fleet.instances[2].join_address, "--token-file", str(token), "--enroll-only")
    refused = stranger.ctl(*join, *stranger.etcd)
    assert refused.returncode == 2
    assert "makes a node" in refused.stderr
    assert "was not spent" in refused.stderr
    assert not (stranger.data_dir / "controlplane").exists()
    enrolled = stranger.ctl(*join)
    assert enrolled.returncode == 0, "it was not spent"
    assert not (stranger.data_dir / "controlplane").exists()


def test_a_host_without_the_secret_founds_nothing_where_a_swarm_is(fleet: Fleet, tmp_path: Path) -> None:
    stranger = Instance(tmp_path, "stranger", fleet.etcd.endpoints)
    stranger.start(wait=False)
    assert stranger.ended(60) == 1
    words = stranger.log.read_text()
    assert "the store holds a swarm" in words
    assert "token create --role instance" in words


def test_load_is_known_across_instances(fleet: Fleet) -> None:
    """The model's host and the entry talk to different instances, or are made to."""
    slow = threading.Thread(target=post, args=(fleet.serving, MODEL), kwargs={"fake": "delay_s=4"})
    slow.start()
    try:

        def seen() -> bool:
            items = fleet.entry.get("/endpoints", admin=True)["items"]
            return any(item["in_flight"] >= 1 for item in items if item["model"] == MODEL)

        eventually("the entry sees what the serving host carries", seen, within_s=NOT_TOO_LATE_S)
        assert control(fleet.serving)["instance"] != control(fleet.entry)["instance"]
    finally:
        slow.join()


def test_a_killed_controller_is_replaced_and_clients_do_not_notice(fleet: Fleet) -> None:
    leader = fleet.leader()
    was, survivor = leader.id, fleet.others(leader)[0]
    with elections(survivor.data_dir) as watch, Load(fleet.entry, MODEL) as load:
        time.sleep(0.5)
        killed_s = time.monotonic()
        leader.kill()
        at_s, election = watch.holder(other_than=was)
        for host in (fleet.serving, fleet.entry):
            eventually("its sidecar is connected", lambda host=host: control(host)["connected"])
    _tell("after kill -9 another controller", at_s - killed_s)
    assert at_s - killed_s < NOT_TOO_LATE_S
    assert election["holder"] in {one.id for one in fleet.others(leader)}
    assert leader.json("node", "list")["items"], "its host's admin asks the others"
    assert load.answers
    assert not load.failures
    leader.start()


def test_a_controller_that_is_told_to_stop_resigns(fleet: Fleet) -> None:
    leader = fleet.leader()
    was, survivor = leader.id, fleet.others(leader)[0]
    with elections(survivor.data_dir) as watch:
        told_s = time.monotonic()
        leader.signal(signal.SIGTERM)
        at_s, election = watch.holder(other_than=was)
        assert leader.ended() == 0
    _tell("after SIGTERM another controller", at_s - told_s)
    assert "controller.resigned" in leader.log.read_text()
    assert election["epoch"] > 1
    leader.start()


def test_a_new_controller_when_the_leader_of_etcd_dies_too(fleet: Fleet) -> None:
    leader, member = fleet.leader(), fleet.etcd.leader()
    was, survivor = leader.id, fleet.others(leader)[0]
    with elections(survivor.data_dir) as watch, Load(fleet.entry, MODEL) as load:
        killed_s = time.monotonic()
        member.kill()
        leader.kill()
        at_s, _ = watch.holder(other_than=was)
    _tell("after kill -9, etcd's leader too, another controller", at_s - killed_s)
    assert not load.failures
    fleet.etcd.revive(member)
    leader.start()


def test_a_node_that_dies_without_any_instance_is_removed_by_the_new_controller(fleet: Fleet) -> None:
    """What the last controller did not see, the next one decides; and the node comes back."""
    leader = fleet.leader()
    pid = fleet.serving.pid("sidecar")
    leader.kill()
    eventually("somebody leads", lambda: _leads(fleet.others(leader)[0], leader), within_s=NOT_TOO_LATE_S)
    survivor = fleet.others(leader)[0]
    _signal(pid, signal.SIGSTOP)
    try:

        def gone() -> bool:
            nodes = survivor.json("node", "list")["items"]
            return next(n["state"] for n in nodes if n["name"] == "serving") == "gone"

        eventually("it is gone", gone, within_s=60, every_s=0.5)
    finally:
        _signal(pid, signal.SIGCONT)
    eventually("it is back", lambda: post(fleet.entry, MODEL)[0] == 200, within_s=60)
    leader.start()


def _leads(asked: Instance, than: Instance) -> bool:
    (election,) = asked.json("election", "list")["items"]
    return election["holder"] not in {"", than.id}


def _tell(what: str, seconds: float) -> None:
    """For who runs the tests with -s: nothing is asserted of a machine's speed."""
    sys.stdout.write(f"{what}: {seconds:.2f} s\n")


def _signal(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)


def test_all_instances_down_under_load_costs_no_request(fleet: Fleet) -> None:
    with Load(fleet.entry, MODEL) as load:
        for instance in fleet.instances:
            instance.kill()
        time.sleep(12)
        assert post(fleet.entry, MODEL)[0] == 200
        before = len(load.answers)
        for instance in fleet.instances:
            instance.start()
        for host in (fleet.serving, fleet.entry):
            eventually("its sidecar is back", lambda host=host: control(host)["connected"], within_s=60)
    assert before > 100
    assert not load.failures
    states = {n["name"]: n["state"] for n in fleet.instances[0].json("node", "list")["items"]}
    assert (states["serving"], states["entry"]) == ("live", "live"), "nobody was removed"


def test_a_host_with_an_instance_serves_although_etcd_is_away(fleet: Fleet, tmp_path: Path) -> None:
    """Its control plane comes when etcd does; what it knows it serves at once."""
    host, asked = Host(tmp_path, "both"), fleet.instances[0]
    token = tmp_path / "token"
    token.write_text(asked.token("--role", "instance"))
    try:
        flags = ["join", asked.join_address, "--token-file", str(token)]
        host.start(flags, *asked.etcd, founder=True)
        eventually("it knows the model", lambda: post(host, MODEL)[0] == 200)
        host.close()
        for member in fleet.etcd.members:
            member.kill()
        try:
            host.start(["up"], *asked.etcd, founder=True)
            assert post(host, MODEL)[0] == 200
            assert "serves what it knows" in host.log.read_text()
        finally:
            fleet.etcd.revive(*fleet.etcd.members)
        eventually("its instance is back", lambda: "control" in host.runtime["urls"], within_s=60)
        assert host.ctl("leave").returncode == 0, "others keep the swarm"
    finally:
        host.close()


def test_a_drain_ends_whichever_instance_was_asked(fleet: Fleet) -> None:
    for instance in fleet.instances:
        drained = instance.ctl("node", "drain", "serving")
        assert drained.returncode == 0, drained.stderr
        assert instance.ctl("node", "uncordon", "serving").returncode == 0
    eventually("it serves again", lambda: post(fleet.entry, MODEL)[0] == 200)


def test_without_a_quorum_nothing_is_changed_and_it_comes_back_by_itself(fleet: Fleet) -> None:
    instance = fleet.instances[0]
    lost = fleet.etcd.members[:2]
    eventually("both hosts are connected", lambda: all(stream["connected"] for stream in fleet.streams()))
    sessions = [stream["session"] for stream in fleet.streams()]
    for member in lost:
        member.kill()
    lost_s = time.monotonic()
    try:
        refused = instance.ctl("token", "create")
        assert refused.returncode == 75, refused.stderr
        assert "majority" in refused.stderr
        listed = instance.ctl("node", "list")
        assert listed.returncode == 0, listed.stderr
        assert "serving" in listed.stdout
        assert "old" in listed.stderr, "reads say that they are not fresh"
        assert post(fleet.entry, MODEL)[0] == 200
        # Longer than a renewal is tried for, and than nodes may be silent.
        time.sleep(max(0.0, lost_s + 9.0 - time.monotonic()))
        assert [stream["session"] for stream in fleet.streams()] == sessions, "no stream was given up"
        assert all(stream["connected"] for stream in fleet.streams())
        assert "suspect" not in instance.ctl("node", "list").stdout
    finally:
        fleet.etcd.revive(*lost)
    eventually("a token can be made", lambda: instance.ctl("token", "create").returncode == 0, within_s=60)
    eventually("somebody leads", lambda: instance.json("election", "list")["items"][0]["holder"])
    eventually("reads are fresh again", lambda: "old" not in instance.ctl("node", "list").stderr)


def test_an_empty_store_is_no_place_for_an_instance(fleet: Fleet, tmp_path: Path) -> None:
    """Etcd wiped, or another prefix: an instance says so and founds nothing."""
    instance = fleet.instances[2]
    copy = Instance(tmp_path, "copy", fleet.etcd.endpoints)
    shutil.copytree(instance.data_dir, copy.data_dir)
    (copy.data_dir / "run" / "controlplane.json").unlink(missing_ok=True)
    secret = ("--swarm-secret-file", str(instance.data_dir / "controlplane" / "swarm-secret"))
    copy.start(*secret, "--set", "etcd.prefix=/elsewhere/", wait=False)
    assert copy.ended(60) == 1
    assert "the store is empty" in copy.log.read_text()


def test_an_instance_ends_when_its_store_was_wiped_and_founds_nothing_in_it(tmp_path: Path) -> None:
    with running(1) as etcd:
        instance = Instance(tmp_path, "wiped", etcd.endpoints)
        instance.start()
        (member,) = etcd.members
        member.kill()
        member.wipe()
        etcd.revive(member)
        assert instance.ended(60) == 1
        assert "it was wiped" in instance.log.read_text()
        instance.start(wait=False)
        assert instance.ended(60) == 1
        assert "the store is empty" in instance.log.read_text()


def test_a_frozen_instance_is_left_and_another_decides(fleet: Fleet) -> None:
    leader = fleet.leader()
    was, survivor = leader.id, fleet.others(leader)[0]
    with elections(survivor.data_dir) as watch, Load(fleet.entry, MODEL) as load:
        frozen_s = time.monotonic()
        leader.signal(signal.SIGSTOP)
        at_s, election = watch.holder(other_than=was)
        for host in (fleet.serving, fleet.entry):
            eventually("its sidecar left it", lambda host=host: control(host)["instance"] not in {"", was})
        leader.signal(signal.SIGCONT)
        eventually("it knows", lambda: "controller.stepped_down" in leader.log.read_text())
        now = survivor.json("election", "list")["items"][0]
    _tell("after SIGSTOP another controller", at_s - frozen_s)
    assert (now["holder"], now["epoch"]) == (election["holder"], election["epoch"])
    assert not load.failures


def test_of_two_that_found_at_once_one_wins_and_the_other_says_so(fleet: Fleet, tmp_path: Path) -> None:
    both = [Instance(tmp_path, name, fleet.etcd.endpoints) for name in ("x", "y")]
    for one in both:
        one.start("--swarm", "race", wait=False)

    def settled() -> bool:
        ready = [one for one in both if one.facts]
        ended = [one for one in both if not one.running]
        return len(ready) + len(ended) == 2

    try:
        eventually("both know", settled, within_s=60)
        winners = [one for one in both if one.running]
        (loser,) = [one for one in both if not one.running]
        assert len(winners) == 1
        words = loser.log.read_text()
        assert "another host founded" in words or "the store holds a swarm" in words
        assert not (loser.data_dir / "controlplane" / "swarm-secret").exists()
        secret = winners[0].data_dir / "controlplane" / "swarm-secret"
        loser.start("--swarm", "race", "--swarm-secret-file", str(secret))
        assert loser.facts["swarm"] == winners[0].facts["swarm"]
    finally:
        for one in both:
            one.close()
