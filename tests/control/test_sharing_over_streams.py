"""Conditions, prompt digests and explanations, from one sidecar over a real control plane to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from sidecar.core.candidate import Warmth
from sidecar.core.cost import Ask
from sidecar.core.prefix import block_hashes
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.clock import SystemClock
from swarmplane.conditions import Condition, EndpointCondition
from swarmplane.errors import Code
from swarmplane.ids import EndpointId
from swarmplane.v1 import route_pb2, route_pb2_grpc
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.control import inventory, running_plane
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
