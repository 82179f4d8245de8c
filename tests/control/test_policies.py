"""Policies as people set them, from the call to the tables of sidecars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from cli.policyfiles import read_policies
from sidecar.core.strategies import STRATEGIES as KNOWN
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.client.decoding import policy, policy_to_pb
from swarmplane.errors import Code, InvalidRequestError
from swarmplane.fallbacks import NO_FALLBACKS, FallbackPolicy, FallbackRule
from swarmplane.ids import ModelName
from swarmplane.policies import STRATEGIES
from swarmplane.v1 import policy_pb2 as pb
from swarmplane.v1 import policy_pb2_grpc
from tests.fakes.authority import until
from tests.fakes.control import Plane, SidecarEnd, inventory


def test_the_control_plane_knows_the_strategies_that_sidecars_have() -> None:
    assert STRATEGIES == KNOWN


async def stub(plane: Plane, role: str = "operator") -> Any:
    return policy_pb2_grpc.PolicyServiceStub(await plane.channel(await plane.member(role)))


async def apply(policies: Any, wanted: Mapping[str, str], **more: Any) -> Any:
    asked = [pb.Policy(model=model, strategy=strategy) for model, strategy in wanted.items()]
    return await policies.Apply(pb.ApplyPoliciesRequest(policies=asked, **more), timeout=10)


async def refusal(policies: Any, wanted: Mapping[str, str], **more: Any) -> Code:
    try:
        await apply(policies, wanted, **more)
    except grpc.aio.AioRpcError as error:
        return rpc_error_to_swarm_error(error).code
    raise AssertionError("applied")


def strategy(end: SidecarEnd, model: str) -> str | None:
    route = end.table.models.get(ModelName(model))
    return route.strategy if route is not None else None


async def test_a_models_strategy_reaches_the_tables_and_leaves_them(plane: Plane) -> None:
    """Kills: strategies compiled once only, a policy of a model nobody has yet lost, one never unset."""
    policies = await stub(plane)
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        answer = await apply(policies, {"late": "failover", "": "latency"})
        assert [one.revision for one in answer.policies] == [answer.revision] * 2
        await end.has(inventory("m", "late"))
        await end.knows("m", 1)
        await until(lambda: strategy(end, "late") == "failover")
        assert strategy(end, "m") == ""
        await until(lambda: end.policy is not None and end.policy.default_strategy == "latency")
        await apply(policies, {"m": "round_robin"})
        await until(lambda: strategy(end, "m") == "round_robin")
        assert end.ready("m") == 1
        listed = await policies.List(pb.ListPoliciesRequest())
        assert [(one.model, one.strategy) for one in listed.policies] == [
            ("", "latency"), ("late", "failover"), ("m", "round_robin"),
        ]  # fmt: skip
        await apply(policies, {"m": "", "": ""})
        await until(lambda: strategy(end, "m") == "")
        await until(lambda: end.policy is not None and end.policy.default_strategy == "least_cost")
        listed = await policies.List(pb.ListPoliciesRequest())
        assert [one.model for one in listed.policies] == ["", "late"]


async def test_what_makes_no_sense_is_refused_whole(plane: Plane) -> None:
    policies = await stub(plane)
    assert await refusal(policies, {"m": "failover", "n": "fastest"}) is Code.INVALID_REQUEST
    assert await refusal(policies, {"bad\nname": "failover"}) is Code.INVALID_REQUEST
    assert await refusal(policies, {}) is Code.INVALID_REQUEST
    assert (await policies.Get(pb.GetPolicyRequest(model="m"))).strategy == ""
    first = await apply(policies, {"m": "failover"}, request_id="once")
    again = await apply(policies, {"m": "failover"}, request_id="once")
    assert again.revision == first.revision
    assert await refusal(policies, {"m": "latency"}, expected_revision=1) is Code.CONFLICT
    changed = await apply(policies, {"m": "latency"}, expected_revision=first.revision)
    assert (await policies.Get(pb.GetPolicyRequest(model="m"))).revision == changed.revision
    assert await refusal(await stub(plane, "viewer"), {"m": "latency"}) is Code.FORBIDDEN


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[swarm]\nstrategy = "latency"\n[models."a/b"]\nstrategy = ""\n', [("", "latency"), ("a/b", "")]),
        ('{"models": {"m": {"strategy": "failover"}}}', [("m", "failover")]),
    ],
)
def test_files_of_policies(text: str, wanted: list[tuple[str, str]]) -> None:
    assert [(one.model, one.strategy) for one in read_policies(text)] == wanted


@pytest.mark.parametrize(
    "text",
    ["", "{", "= 1", "[other]\nx = 1", "[models.m]\nstrategy = 1", "models = 1", '[swarm]\nstrategies = "a"'],
)
def test_files_that_hold_something_else_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        read_policies(text)


RULES = """
[swarm]
substitute_loaded = true
auto_pull = ["qwen3:*"]
[[swarm.fallbacks]]
match = "gpt-*"
category = "chat"
from_gb = 1
below_gb = 20.5
models = ["big", "small"]
[models.m]
fallbacks = ["n", "o"]
"""


async def test_fallbacks_travel_from_the_file_to_the_tables(plane: Plane) -> None:
    """Kills: a field dropped on the way, chains of models in no route, what the file leaves out kept."""
    policies = await stub(plane)
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        await end.has(inventory("m"))
        await end.knows("m", 1)
        await policies.Apply(pb.ApplyPoliciesRequest(policies=map(policy_to_pb, read_policies(RULES))))
        rule = FallbackRule(("big", "small"), "gpt-*", "chat", 10**9, int(20.5e9))
        wanted = FallbackPolicy((rule,), substitute_loaded=True, auto_pull=("qwen3:*",))
        await until(lambda: end.policy is not None and end.policy.fallbacks == wanted)
        await until(lambda: end.table.models[ModelName("m")].fallbacks == ("n", "o"))
        listed = [policy(one) for one in (await policies.List(pb.ListPoliciesRequest())).policies]
        assert [(one.model, one.chain, one.fallbacks) for one in listed] == [
            ("", (), wanted), ("m", ("n", "o"), NO_FALLBACKS),
        ]  # fmt: skip
        await apply(policies, {"": "latency", "m": "failover"})
        await until(lambda: end.policy is not None and end.policy.fallbacks == NO_FALLBACKS)
        await until(lambda: end.table.models[ModelName("m")].fallbacks == ())


async def test_context_protection_travels_from_the_file_to_the_tables(plane: Plane) -> None:
    """Kills: a field dropped on the way, the swarm's taken for a model's, what the file leaves out kept."""
    policies = await stub(plane)
    _, credential = await plane.node("one")
    text = '[swarm]\ncontext_protection = "warn"\n[models.m]\ncontext_protection = "passthrough"\n'
    async with plane.stream(credential) as end:
        await end.has(inventory("m"))
        await end.knows("m", 1)
        await policies.Apply(pb.ApplyPoliciesRequest(policies=map(policy_to_pb, read_policies(text))))
        await until(lambda: end.policy is not None and end.policy.default_context == "warn")
        await until(lambda: end.table.models[ModelName("m")].context == "passthrough")
        listed = [policy(one) for one in (await policies.List(pb.ListPoliciesRequest())).policies]
        assert [(one.model, one.context) for one in listed] == [("", "warn"), ("m", "passthrough")]
        await apply(policies, {"": "latency", "m": "failover"})
        await until(lambda: end.policy is not None and end.policy.default_context == "")
        await until(lambda: end.table.models[ModelName("m")].context == "")


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(pb.Policy(context_protection="melt"), id="no-protection"),
        pytest.param(pb.Policy(fallbacks=["m"]), id="a-chain-of-the-swarm"),
        pytest.param(pb.Policy(model="m", substitute_loaded=True), id="substitution-of-a-model"),
        pytest.param(pb.Policy(fallback_rules=[pb.FallbackRule()]), id="a-rule-without-models"),
        pytest.param(
            pb.Policy(fallback_rules=[pb.FallbackRule(models=["m"], category="x")]), id="no-category"
        ),
        pytest.param(
            pb.Policy(fallback_rules=[pb.FallbackRule(models=["m"], from_bytes=2, below_bytes=2)]),
            id="sizes-of-nothing",
        ),
        pytest.param(
            pb.Policy(fallback_rules=[pb.FallbackRule(models=["m"], match="*a*b*c*d*")]), id="five-stars"
        ),
        pytest.param(pb.Policy(fallback_rules=[pb.FallbackRule(models=["m"])] * 65), id="many-rules"),
        pytest.param(pb.Policy(model="m", fallbacks=["n"] * 9), id="a-long-chain"),
        pytest.param(pb.Policy(model="m", fallbacks=[""]), id="no-name"),
        pytest.param(pb.Policy(auto_pull=["m"] * 65), id="much-to-pull"),
    ],
)
async def test_fallbacks_that_make_no_sense_are_refused(plane: Plane, wanted: pb.Policy) -> None:
    """Kills: each check."""
    policies = await stub(plane)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await policies.Apply(pb.ApplyPoliciesRequest(policies=[wanted]))
    assert rpc_error_to_swarm_error(refused.value).code is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    "text",
    [
        "[models.m]\nauto_pull = ['x']", "[models.m]\nfallbacks = [1]", "[swarm]\nsubstitute_loaded = 1",
        "[[swarm.fallbacks]]\nmodels = ['m']\nfrom_gb = true", "[[swarm.fallbacks]]\nsize = 1", "[swarm]",
    ],
)  # fmt: skip
def test_files_of_fallbacks_that_hold_something_else_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        read_policies(text)
