"""What answers tell of caches corrects what is believed of them."""

from __future__ import annotations

import pytest

from sidecar.core.prefix_index import GROWN_BLOCKS, REPLICA_BLOCKS
from sidecar.routing.balancing import Balancer
from swarmplane.ids import EndpointId

KEY = EndpointId("n/b/m")


@pytest.fixture
def balancer() -> Balancer:
    """100 blocks are believed to be cached at an endpoint."""
    found = Balancer()
    found.prefixes.insert("m", KEY, tuple(b"%08d" % number for number in range(100)))
    return found


def capacity(balancer: Balancer) -> int:
    return balancer.prefixes.of("m")[KEY].capacity


def test_a_miss_tells_that_its_cache_is_smaller(balancer: Balancer) -> None:
    balancer.cache_told("m", KEY, 100, 30.0)
    assert capacity(balancer) == balancer.prefixes.size == 80


def test_nearly_all_is_a_hit(balancer: Balancer) -> None:
    """Kills: blocks of bytes compared with tokens to the last one."""
    balancer.cache_told("m", KEY, 100, 30.0)
    balancer.cache_told("m", KEY, 50, 40.5)
    assert capacity(balancer) == 80 + GROWN_BLOCKS
    balancer.cache_told("m", KEY, 50, 39.5)
    assert capacity(balancer) < 80


def test_who_says_nothing_but_zero_tells_nothing(balancer: Balancer) -> None:
    """Kills: servers without figures that lose all affinity; caches that restarted and are believed full."""
    for _ in range(50):
        balancer.cache_told("m", KEY, 100, 0.0)
    assert capacity(balancer) == REPLICA_BLOCKS
    balancer.cache_told("m", KEY, 100, 100.0)
    balancer.cache_told("m", KEY, 100, 0.0)
    assert capacity(balancer) == 80


def test_of_endpoints_that_left_nothing_is_kept(balancer: Balancer) -> None:
    balancer.cache_told("m", KEY, 100, 100.0)
    balancer.housekeep(0.0, lambda key: key != KEY)
    balancer.cache_told("m", KEY, 100, 0.0)
    assert capacity(balancer) == REPLICA_BLOCKS
