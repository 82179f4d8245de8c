"""Answers that stop coming: elsewhere while nobody saw a byte of them, else an error that is no end.

Mutants seen to be killed: the learned limit not asked for, learned for collected answers, a stall before the
first byte told as an error, a stalled stream ended by its marker, time in which we slept counted.
"""

from __future__ import annotations

import json
import time
from typing import Any

from sidecar.core.deadlines import FirstBytePolicy
from tests.fakes.backend import Behaviour, FakeBackend, running_backend
from tests.fakes.dataplane import STREAM, Node, Served, client, eventually, running_node

LONG: dict[str, Any] = {"stall_timeout_s": 45.0, "stall_floor_s": 0.1}
"""Unlearned, a stall would outlast the test."""
QUICK_S = 0.001
"""A gap of which a hundred are the floor."""


def key(node: Node, backend: str = "one") -> str:
    return f"{node.id}/{backend}/m1"


async def test_the_usual_gap_is_learned_from_whole_streams(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}, **LONG) as node, client(node) as http:
        gaps = node.routes.balancer.gaps
        answer = await http.ask(STREAM, x_fake="chunks=12; interval_s=0.05; done=0")
        assert "error" in json.loads(answer.events[-1])
        assert gaps.of(key(node)) == 0.0, "a broken one teaches nothing"
    async with running_node(served={"one": Served(backend)}, **LONG) as node, client(node) as http:
        gaps = node.routes.balancer.gaps
        answer = await http.ask(STREAM, x_fake="chunks=12; interval_s=0.05")
        assert answer.events[-1] == "[DONE]"
        assert 0.03 < gaps.of(key(node)) < 5.0


async def test_a_stalled_stream_ends_with_the_error_and_without_a_marker(backend: FakeBackend) -> None:
    async with running_node(served={"one": Served(backend)}, **LONG) as node, client(node) as http:
        node.routes.balancer.gaps.learn(key(node), QUICK_S)
        answer = await http.ask(STREAM, x_fake="hang_at=600")
        assert answer.status == 200
        assert answer.whole, "the body ends as its framing says"
        assert json.loads(answer.events[-1])["error"]["code"] == "upstream_timeout"
        assert "[DONE]" not in answer.events
        assert await http.closed() == b""
        await eventually(lambda: backend.asked[0].disconnected_s, "the backend is cut off")
        assert len(backend.asked) == 1
        assert not node.plane.active


async def test_before_a_byte_was_seen_it_is_answered_elsewhere() -> None:
    """What came of the first event is no line yet: the client has nothing of it."""
    async with running_backend() as first, running_backend() as second:
        served = {"a": Served(first), "b": Served(second)}
        async with running_node(served=served, **LONG) as node, client(node) as http:
            node.routes.balancer.gaps.learn(key(node, "a"), QUICK_S)
            first.default = Behaviour(hang_at=180)
            answer = await http.ask(STREAM)
            assert (answer.status, answer.headers["x-swarm-backend"]) == (200, "b")
            assert answer.events[-1] == "[DONE]"
            assert len(answer.events) == 9
            assert (len(first.asked), len(second.asked)) == (1, 1)
            assert node.plane.counters.retries == 1


async def test_across_a_hop_it_is_told_once(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for one in pair:
        one.plane.policy = one.plane.policy.__class__(tick_s=0.02, **LONG)
        one.routes.balancer.gaps.learn(key(b), QUICK_S)
    async with client(a) as http:
        answer = await http.ask(STREAM, x_fake="hang_at=600")
        assert sum('"error"' in event for event in answer.events) == 1
        assert "[DONE]" not in answer.events


async def test_a_slow_answer_in_one_piece_has_no_pace(backend: FakeBackend) -> None:
    """Its silence is the model at work. Kills: the learned limit for answers that are collected."""
    async with running_node(served={"one": Served(backend)}, **LONG) as node, client(node) as http:
        node.routes.balancer.gaps.learn(key(node), QUICK_S)
        answer = await http.ask({**STREAM, "stream": False}, x_fake="pieces=3; interval_s=0.4")
        assert (answer.status, len(backend.asked)) == (200, 1)


async def test_time_in_which_we_did_not_run_is_nobodys_silence(node: Node) -> None:
    assert node.plane.awake_s == 0.0
    time.sleep(1.2)  # noqa: ASYNC251 - the whole process stands still, as when it is stopped
    await eventually(lambda: node.plane.awake_s, "the late tick is noticed")


async def test_nor_is_it_a_late_first_byte() -> None:
    """A process that stood still sends nothing twice: who was asked had no chance to be heard."""
    limits = FirstBytePolicy(floor_s=2.0, unknown_s=2.0)
    async with running_backend() as first, running_backend() as second:
        served = {"a": Served(first), "b": Served(second)}
        async with running_node(served=served, first_byte=limits) as node, client(node) as http:
            first.default = Behaviour(delay_s=3.2)
            http.post(STREAM)
            await eventually(lambda: first.asked, "it runs")
            time.sleep(3.0)  # noqa: ASYNC251 - as above
            answer = await http.answer()
            assert (answer.status, answer.headers["x-swarm-backend"]) == (200, "a")
            assert (len(first.asked), len(second.asked)) == (1, 0)
