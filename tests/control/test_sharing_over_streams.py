"""Conditions, prompt digests and explanations, from one sidecar over a real control plane to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.services.outbox import Outbox
from controlplane.services.sessions import Session
from sidecar.core.candidate import Warmth
from sidecar.core.cost import Ask
from sidecar.core.prefix import block_hashes
from swarmplane import features
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.clock import SystemClock
from swarmplane.conditions import Condition, EndpointCondition, NodeCondition
from swarmplane.errors import Code
from swarmplane.ids import EndpointId, NodeId
from swarmplane.routes import Version
from swarmplane.v1 import route_pb2, route_pb2_grpc
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.control import Plane, inventory, running_plane
from tests.fakes.streams import sidecar

BODY = b"x" * 8192


async def test_what_one_node_is_and_has_cached_is_known_at_the_other(tmp_path: Path) -> None:
    """Both hash with the swarm's key; a second entry node prices the warm endpoint cheaper from then on."""
    async with running_plane(tmp_path / "cp") as plane:
        (_, one), (_, two) = await plane.node("one"), await plane.node("two")
        address = str(plane.servers.control_bound)
        async with (
            sidecar(tmp_path / "1", one, address) as owner,
            sidecar(tmp_path / "2", two, address) as far,
        ):
            owner.has(inventory("m"))
            (endpoint,) = owner.routes.view.own
            owner.condition = Condition(
                pressure=0.9, endpoints=(EndpointCondition(endpoint, "recent", size_bytes=10**9),)
            )
            owner.stream.wake()
            await until(lambda: far.sees("m") == "ready")
            await until(lambda: far.routes.balancer.agreed and owner.routes.balancer.agreed)
            assert far.routes.balancer.key == owner.routes.balancer.key
            blocks = block_hashes(BODY, [(0, len(BODY))], owner.routes.balancer.key)
            owner.routes.balancer.prefixes.insert("m", endpoint, blocks)
            await until(lambda: far.routes.balancer.prefixes.match("m", endpoint, blocks) == len(blocks))
            (candidate,) = far.routes.resolve("m", SystemClock().now_s()).candidates
            assert candidate.facts.warmth is Warmth.RECENT
            assert candidate.facts.pressure == 0.9
            ask = Ask("m", prompt_tokens=2048, blocks=blocks)
            (priced,) = far.routes.balancer.explain([candidate], ask, SystemClock().now_s())
            assert priced.terms["prefix"] < -0.5
            assert priced.terms["thermal"] > 0.0
            assert priced.terms["memory_fit"] > 0.0


async def test_a_node_that_left_is_not_believed_any_more(tmp_path: Path) -> None:
    async with running_plane(tmp_path / "cp") as plane:
        (_, one), (_, two) = await plane.node("one"), await plane.node("two")
        async with plane.stream(two) as far:
            async with plane.stream(one) as end:
                told = pb.Condition(owner_active=True, valid_s=60.0)
                await end.send(condition=told)
                await until(lambda: [n.condition.owner_active for n in far.conditions] == [True])
                await end.send(condition=pb.Condition(valid_s=60.0))
                await until(lambda: len(far.conditions) == 2)
                assert not far.conditions[1].condition.HasField("owner_active"), "unknown stays unknown"
            await until(lambda: len(far.conditions) == 3)
            assert not far.conditions[2].HasField("condition")


async def test_an_older_sidecar_is_told_nothing_new(tmp_path: Path) -> None:
    async with running_plane(tmp_path / "cp") as plane:
        (_, one), (_, two) = await plane.node("one"), await plane.node("two")
        async with plane.stream(one) as end, plane.stream(two, speaks=("routes",)) as old:
            await end.send(condition=pb.Condition(owner_active=True, valid_s=60.0))
            await end.send(
                prefixes=pb.Prefixes(
                    endpoints=[
                        pb.EndpointPrefixes(
                            endpoint_id=f"{end.node}/b/m", model="m", blocks=b"1" * 8, hash_version=1
                        )
                    ]
                )
            )
            async with plane.stream((await plane.node("three"))[1]) as new:
                await until(lambda: new.conditions and new.prefixes)
            assert not old.conditions
            assert not old.prefixes
            assert old.last_word is None


def _noted(plane: Plane, count: int, endpoints: int) -> Session:
    """A stream that is to be told of ``count`` nodes with so many endpoints each, and of itself."""
    sharing, nodes = plane.control.pushes.sharing, [NodeId(f"n{n}") for n in range(count)]
    for node in (*nodes, NodeId("me")):
        own = tuple(EndpointCondition(EndpointId(f"{node}/e/m{n}"), "cold") for n in range(endpoints))
        sharing.take_others([NodeCondition(node, Condition(endpoints=own, valid_s=60.0))], ())
    session = Session(NodeId("me"), "me", 1, "one", 0, frozenset(features.ALL), Outbox(Version()))
    session.outbox.greeted = True
    sharing.greet(session)
    return session


@pytest.mark.parametrize(
    ("count", "endpoints", "sizes"),
    [
        pytest.param(150, 0, [64, 64, 22], id="many-nodes"),
        pytest.param(5, 600, [2, 2, 1], id="many-endpoints"),
        pytest.param(2, 1000, [1, 1], id="exactly-as-many"),
    ],
)
async def test_conditions_come_in_messages_of_bounded_size(
    plane: Plane, count: int, endpoints: int, sizes: list[int]
) -> None:
    """Kills: either bound dropped or moved; a node told of itself; one told twice, or never."""
    session = _noted(plane, count, endpoints)
    told: list[str] = []
    found: list[int] = []
    while (news := plane.control.pushes.sharing.conditions(session)) is not None:
        told += [one.node for one in news.nodes]
        found.append(len(news.nodes))
    assert found == sizes
    assert sorted(told) == sorted(f"n{n}" for n in range(count))


async def test_an_explanation_is_had_of_whoever_answers(plane: Plane, tmp_path: Path) -> None:
    """Kills: one node asked, whatever it does; the smallest id first; the first answer taken for the last."""
    (_, one), (_, two) = await plane.node("one"), await plane.node("two")
    admin = await plane.channel(await plane.member("admin"))
    explain: Any = route_pb2_grpc.RouteServiceStub(admin).Explain
    address = str(plane.servers.control_bound)
    for name, mute, able in (("1", one, two), ("2", two, one)):
        async with plane.stream(mute) as silent, sidecar(tmp_path / name, able, address) as owner:
            owner.has(inventory("m"))
            await until(lambda owner=owner: owner.sees("m") == "ready" and owner.stream.connected)  # type: ignore[misc]
            # Heard last, so it is asked first; it never answers.
            await silent.beat()
            answer = await explain(route_pb2.ExplainRequest(model="m"), timeout=20)
            assert answer.node_id == owner.node
            assert await refusal(explain, "nobody's") is Code.MODEL_NOT_FOUND


async def test_a_sidecar_explains_over_the_control_plane(tmp_path: Path) -> None:
    async with running_plane(tmp_path / "cp") as plane:
        (_, one), (_, two) = await plane.node("one"), await plane.node("two")
        address = str(plane.servers.control_bound)
        admin = await plane.channel(await plane.member("admin"))
        explain: Any = route_pb2_grpc.RouteServiceStub(admin).Explain
        assert await refusal(explain, "m") is Code.UNAVAILABLE, "nobody to ask"
        async with (
            sidecar(tmp_path / "1", one, address) as owner,
            sidecar(tmp_path / "2", two, address) as far,
        ):
            owner.has(inventory("m"))
            await until(lambda: far.sees("m") == "ready")
            answer = await explain(route_pb2.ExplainRequest(model="m", prompt_tokens=512, node="two"))
            assert (answer.model, answer.node_name, answer.prompt_tokens) == ("m", "two", 512)
            (found,) = answer.endpoints
            assert found.id == EndpointId(f"{owner.node}/engine/m")
            assert found.node_name == "one"
            assert found.terms["latency"] > 0.5
            assert found.cost_s >= found.terms["latency"]
            assert not found.excluded
            far.routes.hold_full(EndpointId(found.id), SystemClock().now_s() + 60.0)
            answer = await explain(route_pb2.ExplainRequest(model="m", node=str(far.node)))
            assert answer.endpoints[0].excluded == "full"
            assert await refusal(explain, "nobody's") is Code.MODEL_NOT_FOUND
            assert await refusal(explain, "m", node="stranger") is Code.NOT_FOUND


async def refusal(call: Any, model: str, node: str = "") -> Code:
    try:
        await call(route_pb2.ExplainRequest(model=model, node=node), timeout=10)
    except grpc.aio.AioRpcError as error:
        return rpc_error_to_swarm_error(error).code
    raise AssertionError("answered")
