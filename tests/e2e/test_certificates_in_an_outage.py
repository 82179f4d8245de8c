"""Certificates that live for seconds, and no instance for ten of their lives: hops go on.

With ``OUTAGE=full`` in the environment the lives are 20 s and the outage 200 s (CONTRIBUTING).
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from swarmplane.credentials.files import load_credential
from tests.e2e.hosts import Backend, Host, Swarm, eventually
from tests.e2e.instances import Instance
from tests.e2e.load import Load
from tests.e2e.test_failures import post
from tests.store.etcd_server import WITHOUT, etcd_binary, running

LIFE_S, DOWN_LIVES = (20.0, 10) if os.environ.get("OUTAGE") == "full" else (3.0, 10)
MODEL = "far-model"

pytestmark = [
    pytest.mark.process,
    pytest.mark.etcd_cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(etcd_binary() is None, reason=WITHOUT),
]


def certificate_ends_s(host: Host) -> float:
    """Unix time."""
    return load_credential(host.data_dir / "node").facts().not_after_s


def is_fresh(host: Host) -> bool:
    """Whether its certificate has not ended."""
    return certificate_ends_s(host) > time.time()


def connected(host: Host) -> bool:
    return bool(host.get("/control", admin=True)["connected"])


def join(host: Host, instance: Instance, *flags: str) -> None:
    path = host.data_dir.parent / f"{host.name}.token"
    path.write_text(instance.token())
    host.start(["join", instance.join_address, "--token-file", str(path)], *flags, founder=False)


def test_hops_outlive_certificates_and_all_renew_by_themselves(tmp_path: Path, swarm: Swarm) -> None:
    backend = Backend(MODEL)
    serving, entry, away, denied = (swarm.host(name) for name in ("serving", "entry", "away", "denied"))
    life = ("--set", f"control.certificate_life_s={LIFE_S}")
    with running(1) as etcd:
        instances = [Instance(tmp_path, name, etcd.endpoints) for name in ("i1", "i2")]
        first, second = instances
        try:
            first.start(*life)
            secret = str(first.data_dir / "controlplane" / "swarm-secret")
            second.start(*life, "--swarm-secret-file", secret)
            join(serving, first, "--backend", backend.url)
            for host, at in ((entry, second), (away, first), (denied, second)):
                join(host, at)
                eventually("it reaches the model", lambda host=host: post(host, MODEL)[0] == 200)
            eventually("certificates are renewed in time", lambda: _renewed_twice(serving), within_s=60)

            removed = first.ctl("node", "remove", "denied")
            assert removed.returncode == 0, removed.stderr
            eventually("it is refused", lambda: post(denied, MODEL)[0] != 200)

            with Load(entry, MODEL) as load, Load(denied, MODEL, pause_s=0.5) as barred:
                for instance in instances:
                    instance.kill()
                down_s = time.monotonic()
                away.close()
                time.sleep(LIFE_S * DOWN_LIVES)
                assert not any(is_fresh(host) for host in (serving, entry, away, denied))
                during = len(load.answers)
                for instance in instances:
                    instance.start()
                back_s = time.monotonic()
                eventually("renewed", lambda: is_fresh(serving) and is_fresh(entry), within_s=60)
                _tell("renewed after their return", time.monotonic() - back_s)
                away.start(["up"], founder=False)
                assert post(away, MODEL)[0] == 200, "it renewed before it said that it is ready"
                eventually("connected", lambda: connected(serving) and connected(entry), within_s=60)
                time.sleep(2 * LIFE_S)
            _tell("requests while nobody was there", during)
            _tell("down for", back_s - down_s)
            assert during > 10 * LIFE_S
            assert not load.failures, Counter(load.failures).most_common(3)
            assert barred.answers
            assert not [a for a in barred.answers if a[0] == 200], "a removed node stays refused"
            for host in (serving, entry, away):
                eventually("it is renewed in time", lambda host=host: is_fresh(host))
            assert not is_fresh(denied)
            states = {n["name"]: n["state"] for n in first.json("node", "list")["items"]}
            assert {states[name] for name in ("serving", "entry", "away")} == {"live"}
        finally:
            swarm.close()
            for instance in instances:
                instance.close()
            backend.close()


def _renewed_twice(host: Host) -> bool:
    return host.log.read_text().count("certificate.renewed") >= 2


def _tell(what: str, number: float) -> None:
    """For who runs it with -s: nothing is asserted of a machine's speed."""
    sys.stdout.write(f"{what}: {number:.2f}\n")
