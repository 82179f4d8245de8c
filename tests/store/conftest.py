"""The stores that every conformance test runs against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.etcd_harness import EtcdHarness, SharedEtcd
from tests.store.etcd_server import WITHOUT, etcd_binary, running
from tests.store.harness import EmbeddedHarness, Harness

# Elections within half a second, as on a network that is as near as this one.
QUICK_ELECTIONS = ("--heartbeat-interval=50", "--election-timeout=500")


def _shared(size: int) -> Iterator[SharedEtcd]:
    if etcd_binary() is None:
        pytest.skip(WITHOUT)
    with running(size, QUICK_ELECTIONS) as etcd:
        yield SharedEtcd(etcd)


@pytest.fixture(scope="session")
def single_etcd() -> Iterator[SharedEtcd]:
    """One member, for all tests of a worker."""
    yield from _shared(1)


@pytest.fixture(scope="session")
def three_etcd() -> Iterator[SharedEtcd]:
    """Three members, for all tests of a worker that leave them as they found them."""
    yield from _shared(3)


@pytest.fixture(params=["embedded", "etcd", pytest.param("etcd-of-three", marks=pytest.mark.etcd_cluster)])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    if request.param == "embedded":
        return EmbeddedHarness(tmp_path / "controlplane" / "store.db")
    return EtcdHarness(request.getfixturevalue("single_etcd" if request.param == "etcd" else "three_etcd"))
