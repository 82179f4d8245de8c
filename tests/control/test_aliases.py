"""Aliases as people set them, from the call to the tables of sidecars."""

from __future__ import annotations

from typing import Any

import grpc

from controlplane.services import keyspace
from swarmplane.channels import rpc_error_to_swarm_error
from swarmplane.codec import records
from swarmplane.errors import Code
from swarmplane.ids import ModelName
from swarmplane.v1 import alias_pb2 as pb
from swarmplane.v1 import alias_pb2_grpc, model_pb2, model_pb2_grpc
from tests.fakes.authority import until
from tests.fakes.control import Plane, SidecarEnd, inventory


async def stub(plane: Plane, role: str = "operator") -> Any:
    return alias_pb2_grpc.AliasServiceStub(await plane.channel(await plane.member(role)))


async def set_alias(aliases: Any, name: str, model: str, **more: Any) -> pb.Alias:
    done: pb.Alias = await aliases.Set(pb.SetAliasRequest(name=name, model=model, **more), timeout=10)
    return done


async def refused(call: Any) -> Code:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return rpc_error_to_swarm_error(error).code
    raise AssertionError("done")


def further_names(end: SidecarEnd, model: str) -> tuple[str, ...] | None:
    route = end.table.models.get(ModelName(model))
    return route.aliases if route is not None else None


async def test_an_alias_reaches_the_tables_and_leaves_them(plane: Plane) -> None:
    """Kills: aliases compiled once only, the old model keeping it, an alias of an alias kept as written."""
    aliases = await stub(plane)
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        await end.has(inventory("m", "n"))
        await end.knows("n", 1)
        first = await set_alias(aliases, "gpt-4o", "m")
        assert (first.name, first.model, first.state) == ("gpt-4o", "m", "ready")
        await set_alias(aliases, "claude-*", "gpt-4o")
        await until(lambda: further_names(end, "m") == ("claude-*", "gpt-4o"))
        listed = await aliases.List(pb.ListAliasesRequest())
        assert [(one.name, one.model, one.state) for one in listed.aliases] == [
            ("claude-*", "m", "ready"), ("gpt-4o", "m", "ready"),
        ]  # fmt: skip
        models = model_pb2_grpc.ModelServiceStub(await plane.channel(await plane.member("viewer")))
        assert (await models.Get(model_pb2.GetModelRequest(model="claude-opus-4"))).name == "m"
        again = await set_alias(aliases, "gpt-4o", "m")
        assert again.revision == first.revision
        await set_alias(aliases, "gpt-4o", "n", expected_revision=first.revision)
        await until(lambda: further_names(end, "n") == ("gpt-4o",))
        await until(lambda: further_names(end, "m") == ("claude-*",))
        await aliases.Remove(pb.RemoveAliasRequest(name="claude-*"))
        await until(lambda: further_names(end, "m") == ())
        await end.has(inventory("m", "gpt-4o"))
        await end.knows("gpt-4o", 1)
        states = {one.name: one.state for one in (await aliases.List(pb.ListAliasesRequest())).aliases}
        assert states == {"gpt-4o": "hidden"}
    audited = (await plane.store.range(keyspace.AUDITS)).items
    acts = [records.parse(records.Audit, kv.value) for kv in audited]
    told = [(one.action, one.subject) for one in acts if one.action.startswith("alias.")]
    assert told == [
        ("alias.set", "gpt-4o"), ("alias.set", "claude-*"),
        ("alias.set", "gpt-4o"), ("alias.remove", "claude-*"),
    ]  # fmt: skip


async def test_what_makes_no_sense_is_refused(plane: Plane) -> None:
    """Kills: a model's own name taken, an alias of nothing, five stars, a stale revision, anybody's right."""
    aliases = await stub(plane)
    _, credential = await plane.node("one")
    async with plane.stream(credential) as end:
        await end.has(inventory("m"))
        await end.knows("m", 1)
        set_at = (await set_alias(aliases, "x", "m")).revision
        assert await refused(set_alias(aliases, "m", "m")) is Code.ALREADY_EXISTS
        assert await refused(set_alias(aliases, "y", "nobody-has-it")) is Code.MODEL_NOT_FOUND
        assert await refused(set_alias(aliases, "a*b*c*d*e*", "m")) is Code.INVALID_REQUEST
        assert await refused(set_alias(aliases, "bad\nname", "m")) is Code.INVALID_REQUEST
        assert await refused(set_alias(aliases, "x", "m", expected_revision=set_at + 1)) is Code.CONFLICT
        stale = pb.RemoveAliasRequest(name="x", expected_revision=set_at + 1)
        assert await refused(aliases.Remove(stale)) is Code.CONFLICT
        assert await refused(aliases.Remove(pb.RemoveAliasRequest(name="y"))) is Code.NOT_FOUND
        viewer = await stub(plane, "viewer")
        assert await refused(set_alias(viewer, "z", "m")) is Code.FORBIDDEN
        assert [one.name for one in (await viewer.List(pb.ListAliasesRequest())).aliases] == ["x"]
