"""What choosing does to servers over time, in virtual time: seeded, so each run gives the same figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from sidecar.core.cost import Ask
from sidecar.core.session import session_key
from tests.fakes.virtual_servers import MODEL, Outcome, VirtualServer, VirtualSwarm

Servers = Callable[[], list[VirtualServer]]


def fast_and_slow(*, first_share: float, slots: int, told: bool, scale: float = 1.0) -> list[VirtualServer]:
    """One five times faster than the other; ``first_share`` of its time passes before the first token."""
    return [
        VirtualServer(
            name,
            total_s * first_share,
            rest_s=total_s * (1.0 - first_share),
            slots=slots,
            reported_slots=None if told else 0,
        )
        for name, total_s in (("fast", 0.1 * scale), ("slow", 0.5 * scale))
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("first_share", "slots", "told", "scale"),
    [
        pytest.param(1.0, 1, True, 1.0, id="one-slot-not-streamed"),
        pytest.param(0.2, 1, True, 1.0, id="one-slot-streamed"),
        pytest.param(1.0, 1, False, 1.0, id="one-slot-untold"),
        pytest.param(0.2, 2, True, 1.0, id="two-slots"),
        pytest.param(1.0, 4, True, 1.0, id="four-slots-not-streamed"),
        pytest.param(0.2, 4, True, 1.0, id="four-slots-streamed"),
        pytest.param(0.2, 1, True, 0.1, id="ten-times-faster"),
        pytest.param(0.2, 1, True, 20.0, id="twenty-times-slower"),
    ],
)
def test_unlike_servers_share_the_work_by_their_speed(
    first_share: float, slots: int, told: bool, scale: float, seed: int
) -> None:
    """Kills: least_load by counts, no charge for waiting, latency or queue alone."""
    servers = fast_and_slow(first_share=first_share, slots=slots, told=told, scale=scale)
    outcome = VirtualSwarm(servers, seed=seed).run(iter([Ask(MODEL, 50)] * 200), concurrency=8)
    optimum_s = 200 / (slots / (0.1 * scale) + slots / (0.5 * scale))
    assert outcome.took_s <= 1.15 * optimum_s
    assert outcome.sent["slow"] > 0


def shared_prefixes(count: int, groups: int, seed: int) -> Iterator[Ask]:
    """Requests of ``groups`` long system prompts, each with two blocks of its own."""
    draws = random.Random(seed)
    for number in range(count):
        group = draws.randrange(groups)
        shared = tuple(b"group %03d %03d" % (group, block) for block in range(32))
        own = tuple(b"own %06d %03d" % (number, block) for block in range(2))
        yield Ask(MODEL, 34 * 256 + 100, 100, shared + own)


def caching_servers(slots: int) -> list[VirtualServer]:
    """Four, each with room for four of sixteen prompts: how much room, nobody knows beforehand."""
    return [VirtualServer(f"s{i}", 0.02, 0.05, 0.3, slots, cache_blocks=150) for i in range(4)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("slots", "concurrency"), [(2, 6), (2, 8), (4, 12), (4, 16)])
def test_shared_prefixes_are_served_from_caches(slots: int, concurrency: int, seed: int) -> None:
    """Kills: no credit, a charge for waiting that outweighs every credit, hashes of single blocks."""

    def run(strategy: str) -> Outcome:
        swarm = VirtualSwarm(caching_servers(slots), strategy=strategy, seed=seed)
        return swarm.run(shared_prefixes(600, 16, seed), concurrency=concurrency)

    turns, cost = run("round_robin"), run("least_cost")
    assert cost.hit_rate >= 3 * turns.hit_rate
    assert turns.took_s >= 1.7 * cost.took_s
    assert max(cost.sent.values()) < 2 * 600 / 4


@pytest.mark.parametrize("seed", range(3))
def test_distinct_prefixes_make_no_hot_spot(seed: int) -> None:
    """Kills: ties to the first, the smallest index preferred, a common start that draws everybody."""
    servers = caching_servers(2)
    asks = (Ask(MODEL, 8800, 100, tuple(b"%06d %03d" % (i, b) for b in range(34))) for i in range(600))
    outcome = VirtualSwarm(servers, seed=seed).run(asks, concurrency=8)
    assert all(120 < times < 180 for times in outcome.sent.values())
    assert outcome.hit_blocks == 0


def test_one_prompt_of_everybody_does_not_stay_on_one_server() -> None:
    """Kills: a credit that outweighs any queue: three servers would idle."""
    servers = caching_servers(2)
    outcome = VirtualSwarm(servers).run(shared_prefixes(600, 1, 1), concurrency=16)
    assert min(outcome.sent.values()) > 100


def test_equal_servers_get_equal_shares_and_nobody_waits_beside_an_idle_one() -> None:
    """Kills: herds of equal knowledge; a queue at one while others have free slots."""
    servers = [VirtualServer(f"s{i}", 0.1, rest_s=0.4, slots=2) for i in range(4)]
    outcome = VirtualSwarm(servers).run(iter([Ask(MODEL, 50)] * 800), concurrency=8)
    assert all(180 < times < 220 for times in outcome.sent.values())
    assert outcome.took_s < 1.03 * 800 * 0.5 / 8
    assert max(outcome.latencies_s) < 0.6


def test_a_refusing_server_gets_no_more_than_the_odd_try() -> None:
    """Kills: fast failures taken for speed (a 429 in a millisecond attracts all traffic)."""
    servers = [
        VirtualServer("refuses", 0.001, rest_s=0.0, slots=4, refuses=True),
        VirtualServer("serves", 0.1, rest_s=0.4, slots=4),
    ]
    outcome = VirtualSwarm(servers).run(iter([Ask(MODEL, 50)] * 400), concurrency=8)
    assert outcome.sent["serves"] == 400
    assert outcome.refused < 40


def test_who_was_slow_for_a_while_gets_traffic_again() -> None:
    """Kills: one bad hour that is held against a server for ever, as nobody asks it any more."""
    servers = [VirtualServer(f"s{i}", 0.1, rest_s=0.1, slots=4) for i in range(2)]
    swarm = VirtualSwarm(servers)
    servers[0].first_s = 3.0
    swarm.run(iter([Ask(MODEL, 50)] * 100), concurrency=2)
    servers[0].first_s = 0.1
    assert swarm.run(iter([Ask(MODEL, 50)] * 50), concurrency=1).sent["s0"] == 0
    swarm.now_s += 3600.0
    swarm.run(iter([Ask(MODEL, 50)] * 400), concurrency=2)
    assert swarm.run(iter([Ask(MODEL, 50)] * 400), concurrency=2).sent["s0"] > 100


def test_concurrent_requests_of_a_session_spread_over_idle_servers() -> None:
    """Kills: affinity that piles two parallel requests on one of two idle nodes (herd's failure)."""
    key = session_key(MODEL, header="s")
    for seed in range(20):
        servers = [VirtualServer(f"s{i}", 0.2, rest_s=0.3, slots=4, cache_blocks=900) for i in range(2)]
        swarm = VirtualSwarm(servers, seed=seed)
        blocks = tuple(b"block %03d" % b for b in range(20))
        swarm.run(iter([Ask(MODEL, 5200, 100, blocks, key)] * 3), concurrency=1)
        assert sorted(s.served for s in servers) == [0, 3]
        assert set(
            swarm.run(iter([Ask(MODEL, 5200, 100, blocks, key)] * 2), concurrency=2).sent.values()
        ) == {1}


@pytest.mark.parametrize("count", [40, 100])
def test_two_samples_balance_a_large_swarm(count: int) -> None:
    """Kills: one sample (the fullest would carry far more), a sample that waits beside free slots."""
    servers = [VirtualServer(f"s{i:03}", 0.1, rest_s=0.4, slots=2) for i in range(count)]
    outcome = VirtualSwarm(servers).run(iter([Ask(MODEL, 50)] * (count * 20)), concurrency=count)
    assert max(outcome.latencies_s) < 0.6
    assert max(outcome.sent.values()) < 40
    assert min(outcome.sent.values()) > 5
