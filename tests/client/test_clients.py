"""Both clients against a real control plane: calls, pages, waits, watches over restarts and compaction."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from swarmplane.addresses import parse_address
from swarmplane.client import (
    AsyncClient,
    Change,
    Client,
    ModelRoute,
    Operation,
    Policy,
    Retry,
    calls,
    resources,
)
from swarmplane.client import blocking_resources as blocking
from swarmplane.credentials.files import save_credential
from swarmplane.errors import Code, InvalidRequestError, NotFoundError, UnavailableError
from tests.e2e.hosts import free_ports
from tests.fakes.control import Plane, inventory, running_plane

QUICK = Retry(timeout_s=5, rounds=2, base_s=0.01)


def _client(plane: Plane, *addresses: str) -> AsyncClient:
    return AsyncClient(addresses or (plane.control_address,), plane.admin, retry=QUICK)


async def test_nodes_and_models_as_values(plane: Plane) -> None:
    node, credential = await plane.node("ada")
    async with _client(plane) as swarm, plane.stream(credential) as end:
        await end.has(inventory("llama"))
        await end.knows("llama", 1)
        (found,) = [one async for one in swarm.nodes.list() if one.id == node]
        assert (found.name, found.state, found.models) == ("ada", "live", ("llama",))
        assert found.silent_s is not None
        assert (await swarm.nodes.get("ada")).id == node
        model = await swarm.models.get("llama")
        assert (model.name, model.state, model.replicas[0].node_name) == ("llama", "ready", "ada")
        assert [one.name async for one in swarm.models.list()] == ["llama"]
        (route,) = [one async for one in swarm.routes.list()]
        assert route.endpoints[0].node == node
        with pytest.raises(NotFoundError) as caught:
            await swarm.models.get("gpt-9")
        assert caught.value.code is Code.MODEL_NOT_FOUND


async def test_a_list_is_fetched_page_by_page(plane: Plane) -> None:
    for name in ("ada", "bob", "cyd"):
        await plane.node(name)
    async with _client(plane) as swarm:
        names = [one.name async for one in swarm._transport.items(lambda at: calls.list_nodes(at, 1))]
        assert sorted(names) == ["ada", "bob", "cyd"]


async def test_a_request_id_acts_once(plane: Plane) -> None:
    async with _client(plane) as swarm:
        first = await swarm.tokens.create("operator", uses=2, ttl_s=60, request_id="once")
        again = await swarm.tokens.create("operator", uses=2, ttl_s=60, request_id="once")
        assert first == again
        assert first.join_token.startswith("swp1.")
        assert first.join_token not in repr(first)
        with pytest.raises(InvalidRequestError):
            await swarm.tokens.create("viewer", request_id="once")
        assert [one.id async for one in swarm.tokens.list()] == [first.token.id]
        assert (await swarm.tokens.revoke(first.token.id)).state == "revoked"


async def test_a_drain_is_waited_for(plane: Plane) -> None:
    node, credential = await plane.node("ada")
    steps: list[Operation] = []
    async with _client(plane) as swarm, plane.stream(credential) as end:
        operation = await swarm.nodes.drain("ada")
        with pytest.raises(UnavailableError) as caught:
            await swarm.operations.wait(operation, timeout_s=0.0)
        assert caught.value.code is Code.REQUEST_TIMEOUT
        assert caught.value.details["operation"] == operation.id
        assert end.draining or (await swarm.nodes.get(node)).cordoned
        assert [one.id async for one in swarm.operations.list()] == [operation.id]
        done = await swarm.operations.wait(
            await swarm.operations.cancel(operation.id), on_progress=steps.append
        )
        assert done.state in {"cancelled", "done"}
        assert steps[-1] == done
        assert not (await swarm.nodes.uncordon("ada")).cordoned
        assert (await swarm.nodes.cordon("ada", expected_revision=0)).cordoned
        assert await swarm.nodes.remove("ada") == node


async def test_policies_and_elections(plane: Plane) -> None:
    async with _client(plane) as swarm:
        (set_,) = await swarm.policies.apply(Policy("llama", "round_robin"))
        assert (await swarm.policies.get("llama")).strategy == set_.strategy == "round_robin"
        assert [one.model async for one in swarm.policies.list()] == ["", "llama"]
        for _ in range(100):
            held = [one async for one in swarm.elections.list() if one.holder]
            if held:
                break
            await asyncio.sleep(0.05)
        assert held[0].name == "controller"
        first = await anext(swarm.elections.watch())
        assert first.item is not None
        assert first.item.holder == held[0].holder


async def test_another_address_is_asked_when_one_is_dead(plane: Plane) -> None:
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    async with _client(plane, dead, plane.control_address) as swarm:
        assert swarm.address == plane.control_address
        assert [one async for one in swarm.nodes.list()] == []
    with pytest.raises(UnavailableError, match="can't be reached: connection refused"):
        async with AsyncClient([dead], plane.admin, retry=QUICK):
            pass
    with pytest.raises(NotFoundError, match="no address"):
        AsyncClient([], plane.admin)


async def test_credentials_from_files_and_contexts(plane: Plane, tmp_path: Path) -> None:
    save_credential(tmp_path / "c", plane.admin)
    files: Any = {name: tmp_path / "c" / f"{name}.pem" for name in ("ca", "cert", "key")}
    async with AsyncClient.from_files(plane.control_address, **files) as swarm:
        assert [one async for one in swarm.tokens.list()] == []
    with pytest.raises(NotFoundError, match="can't be read"):
        AsyncClient.from_files("127.0.0.1", **{**files, "key": tmp_path / "none"})
    with pytest.raises(NotFoundError, match="in no swarm"):
        AsyncClient.from_context(data_dir=tmp_path / "nobody")


async def _until_bookmark(changes: AsyncIterator[Change[ModelRoute]]) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    async for change in changes:
        if change.kind == "bookmark":
            return seen
        seen.append((change.kind, change.name))
    return seen


async def test_a_watch_goes_on_after_a_restart_and_a_compaction(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    where = parse_address(f"127.0.0.1:{port}")
    async with running_plane(tmp_path / "founder", address=where) as plane:
        _, a = await plane.node("ada")
        async with plane.stream(a) as end:
            await end.has(inventory("llama", "qwen"))
            await end.knows("qwen", 1)
        swarm = _client(plane)
        changes = swarm.routes.watch(give_up_s=30)
        assert await _until_bookmark(changes) == [("put", "llama"), ("put", "qwen")]
    async with running_plane(tmp_path / "founder", address=where) as plane:
        async with plane.stream(a) as end:
            await end.has(inventory("llama", "mistral"))
            await end.knows("mistral", 1)
        seen = []
        while ("put", "mistral") not in seen:
            seen += await _until_bookmark(changes)
    async with running_plane(tmp_path / "founder", address=where) as plane:
        async with plane.stream(a) as end:
            await end.has(inventory("falcon"))
            await end.knows("falcon", 1)
        revision = (await plane.store.range("")).revision
        await plane.store.compact(revision)
        seen = []
        while ("put", "falcon") not in seen:
            seen += await _until_bookmark(changes)
        await swarm.close()


async def test_events_from_now_on(plane: Plane) -> None:
    async with _client(plane) as swarm:
        events = swarm.events.watch("node.*", "bookmark")
        assert (await anext(events)).kind == "bookmark"
        await plane.node("ada")
        async for event in events:
            if event.kind != "bookmark":
                break
        assert (event.kind, event.name) == ("node.enrolled", "ada")


async def test_the_blocking_client_in_threads(plane: Plane, tmp_path: Path) -> None:
    node, credential = await plane.node("ada")
    dead = f"127.0.0.1:{free_ports(1)[0]}"

    def use() -> list[str]:
        with Client([dead, plane.control_address], plane.admin, retry=QUICK) as swarm:
            names = [one.name for one in swarm.nodes.list()]
            assert swarm.address == plane.control_address
            assert swarm.nodes.get("ada").id == node
            operation = swarm.nodes.drain("ada")
            assert swarm.operations.wait(swarm.operations.cancel(operation.id)).state != "running"
            made = swarm.tokens.create(uses=0)
            assert swarm.tokens.revoke(made.token.id).state == "revoked"
            with pytest.raises(NotFoundError):
                swarm.nodes.get("nobody")
            changes = list(itertools.islice(swarm.routes.watch(), 2))
            assert [one.kind for one in changes][-1] == "bookmark"
            swarm.policies.apply(Policy("", "least_load"))
            return [*names, swarm.policies.get().strategy]

    def fail() -> None:
        with Client([dead], plane.admin, retry=QUICK) as swarm:
            list(swarm.nodes.list())

    async with plane.stream(credential) as end:
        await end.has(inventory("llama"))
        await end.knows("llama", 1)
        assert await asyncio.to_thread(use) == ["ada", "least_load"]
        with pytest.raises(UnavailableError, match="connection refused"):
            await asyncio.to_thread(fail)
    save_credential(tmp_path / "c", plane.admin)
    files: Any = {name: tmp_path / "c" / f"{name}.pem" for name in ("ca", "cert", "key")}
    client = Client.from_files(plane.control_address, **files)
    client.close()
    with pytest.raises(UnavailableError, match="closed"):
        client.nodes.get("ada")


async def test_a_blocking_watch_goes_on_elsewhere(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    where = parse_address(f"127.0.0.1:{port}")
    async with running_plane(tmp_path / "founder", address=where) as plane:
        admin = plane.admin
        _, a = await plane.node("ada")
        async with plane.stream(a) as end:
            await end.has(inventory("llama"))
            await end.knows("llama", 1)
        client = Client([plane.control_address], admin, retry=QUICK)
        changes = client.routes.watch(give_up_s=30)
        first = await asyncio.to_thread(lambda: list(itertools.islice(changes, 2)))
        assert [one.kind for one in first] == ["put", "bookmark"]
    async with running_plane(tmp_path / "founder", address=where) as plane, plane.stream(a) as end:
        await end.has(inventory("llama", "qwen"))
        await end.knows("qwen", 1)
        found = await asyncio.to_thread(lambda: next(one for one in changes if one.name == "qwen"))
        assert found.item is not None
        client.close()


PAIRS = [
    (getattr(resources, f"Async{name}"), getattr(blocking, name))
    for name in ("Nodes", "Models", "Routes", "Elections", "Events", "Policies", "Tokens", "Operations")
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    def surface(kind: type) -> dict[str, list[tuple[str, Any]]]:
        return {
            name: [(p.name, p.default) for p in inspect.signature(method).parameters.values()]
            for name, method in vars(kind).items()
            if not name.startswith("_")
        }

    assert surface(one) == surface(other)
