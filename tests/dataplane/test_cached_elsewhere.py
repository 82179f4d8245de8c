"""A second entry node finds the prompt that the first one's request left in an owner's cache."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sidecar.control.slow_news import SlowNews
from sidecar.routing.prompts import MOST, MOST_BODY_BYTES, Prompts
from swarmplane.codec.prefixes import prefixes_from_pb
from swarmplane.ids import BackendName, EndpointId, NodeId
from swarmplane.routes import Endpoint
from tests.fakes.backend import Behaviour, running_backend
from tests.fakes.dataplane import CHAT, Node, Served, TestSwarm, client, running_node

KEY = b"k" * 32


def tell(owner: Node, to: Node) -> int:
    """What the control plane would carry from ``owner`` now; how many digests that were."""
    message = SlowNews(owner.routes, lambda: None, 0.0).next(0.0)
    told = prefixes_from_pb(message.prefixes.endpoints) if message is not None else ()
    for one in told:
        to.routes.set_cached(one)
    return len(told)


async def test_who_was_never_asked_from_here_is_known_to_have_the_prompt(tmp_path: Path) -> None:
    """Kills: owners that hash nothing, prompts hashed under another key, digests of the wrong endpoint."""
    swarm = TestSwarm(tmp_path)
    how = Behaviour(delay_s=0.01)
    async with (
        running_backend(default=how) as one,
        running_backend(default=how) as two,
        running_node("first", swarm=swarm) as first,
        running_node("second", swarm=swarm) as second,
        running_node("x", {"srv": Served(one)}, swarm=swarm) as x,
        running_node("y", {"srv": Served(two)}, swarm=swarm) as y,
        client(first) as user,
        client(second) as other,
    ):
        swarm.connect(strategy="least_cost")
        for node in (first, second, x, y):
            node.routes.balancer.agree(KEY)
        assert tell(x, second) == tell(y, second) == 0, "and there is room for prompts now"
        prompts = {}
        for letter in "abc":
            body = {**CHAT, "messages": [{"role": "system", "content": letter * 20_000}]}
            answer = await user.ask(body, x_swarm_node="y")
            assert answer.headers["x-swarm-node"] == "y"
            tell(y, second)
            prompts[letter] = body
        known = second.routes.balancer.prefixes
        assert known.size >= 3 * 18
        served = Counter[str]()
        for body in prompts.values():
            served[(await other.ask(body)).headers["x-swarm-node"]] += 1
        assert served == {"y": 3}
        assert (await other.ask(CHAT)).status == 200


async def test_an_own_endpoint_without_a_choice_is_told_of_too(tmp_path: Path) -> None:
    swarm = TestSwarm(tmp_path)
    async with (
        running_backend() as backend,
        running_node("far", swarm=swarm) as far,
        running_node("near", {"srv": Served(backend)}, swarm=swarm) as near,
        client(near) as user,
    ):
        swarm.connect()
        near.routes.balancer.agree(KEY)
        tell(near, far)
        body = {**CHAT, "messages": [{"role": "system", "content": "s" * 20_000}]}
        for _ in range(2):
            assert (await user.ask(body)).status == 200
        assert tell(near, far) == 1


def test_few_prompts_are_kept_and_none_while_nobody_reads() -> None:
    """Kills: no bound, large bodies held, room that is never given back."""
    balancer_reads: list[int] = []
    prompts = Prompts()
    endpoint = Endpoint(EndpointId("n/b/m"), NodeId("n"), BackendName("b"), "m")

    class Index:
        def insert(self, *told: object) -> None:
            balancer_reads.append(len(told))

    def read() -> int:
        balancer_reads.clear()
        prompts.read(Index(), KEY, lambda _: 1)  # type: ignore[arg-type]
        return len(balancer_reads)

    prompts.keep("m", endpoint, b"x" * 4096, [(0, 4096)])
    assert read() == 0
    assert prompts.room == MOST
    prompts.keep("m", endpoint, b"x" * (MOST_BODY_BYTES + 1), [(0, 4096)])
    for _ in range(10):
        prompts.keep("m", endpoint, b"x" * 4096, [(0, 4096)])
    assert prompts.room == 0
    assert read() == MOST
    assert read() == 0
