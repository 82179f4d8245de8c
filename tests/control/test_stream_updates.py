"""Tables over the stream: snapshot, difference, answers, resumption."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from controlplane.services.outbox import Outbox, Unanswered
from swarmplane.ids import ModelName
from swarmplane.inventory import ModelState
from swarmplane.routes import Version
from tests.fakes.authority import until
from tests.fakes.control import LATER, Plane, inventory


async def test_a_sidecar_gets_a_snapshot_then_differences_and_answers_each(plane: Plane) -> None:
    a, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada:
        first = ada.updates[0]
        assert first.snapshot
        assert not first.more
        assert ada.welcome is not None
        assert ada.welcome.session > 0
        assert (ada.welcome.node_name, ada.welcome.swarm_name) == ("ada", "test")
        assert ada.welcome.control_addresses == [plane.control_address]
        assert set(ada.welcome.features) == set(LATER)
        async with plane.stream(b_credential) as bob:
            await bob.has(inventory("llama", "qwen"))
            await ada.knows("llama", 1)
            assert not any(update.snapshot for update in ada.updates[1:])
            endpoint = ada.table.models[ModelName("llama")].endpoints[0]
            assert (endpoint.id, endpoint.slots) == (f"{bob.node}/engine/llama", 2)
            assert endpoint.context_length == 4096
            assert ada.table.nodes[bob.node].name == "bob"
            assert ada.table.nodes[bob.node].session == bob.welcome.session if bob.welcome else 0
            await bob.has(inventory("qwen"))
            await ada.knows("llama", -1)
            assert ada.ready("qwen") == 1
        push = (await plane.control.nodes.get(a)).push
        await until(lambda: push.acked == push.sent == ada.table.version)
        assert push.nacked == Version()


async def test_what_a_sidecar_did_not_advertise_is_not_sent(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential, speaks=()) as ada:
        await ada.has(inventory("llama"))
        await ada.knows("llama", 1)
        assert ada.policy is None
        assert ada.welcome is not None
        assert not ada.welcome.features


async def test_a_refused_update_leaves_the_last_good_one_and_is_shown(plane: Plane) -> None:
    a, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(a_credential) as ada, plane.stream(b_credential) as bob:
        await until(lambda: bob.node in ada.table.nodes)
        ada.refuse = "makes no sense"
        good = ada.table
        await bob.has(inventory("llama"))
        await until(lambda: plane.control.nacks)
        push = (await plane.control.nodes.get(a)).push
        assert push.nack_reason == "makes no sense"
        assert push.nacked > push.acked
        assert ada.table == good
        sent = len(ada.updates)
        await asyncio.sleep(0.3)
        assert len(ada.updates) == sent, "what was refused is not sent again"

        await bob.has(inventory("llama", "qwen"))
        await ada.knows("qwen", 1)
        assert ada.ready("llama") == 1, "the next one stands on what was accepted"
        await until(lambda: push.nacked == Version())


def test_a_refused_policy_is_shown_until_something_as_new_is_taken() -> None:
    """Kills: it is forgotten at once; an older table that is taken meanwhile hides it."""
    outbox = Outbox(Version(1, 3))
    outbox.policy_unanswered = Unanswered(7, Version(1, 5), 0.0)
    outbox.table_unanswered = Unanswered(8, Version(1, 4), 0.0)
    assert outbox.nacked(Version(1, 3), 7, "not on disk")
    assert not outbox.nacked(Version(1, 3), 7, "twice")
    outbox.acked(Version(1, 4), 8)
    assert (outbox.state.nacked, outbox.state.nack_reason) == (Version(1, 5), "not on disk")
    outbox.policy_unanswered = Unanswered(9, Version(1, 6), 0.0)
    outbox.acked(Version(1, 6), 9)
    assert (outbox.state.nacked, outbox.state.nack_reason) == (Version(), "")


async def test_resuming_by_version_costs_only_the_difference(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    many = [f"model-{number}" for number in range(300)]
    async with plane.stream(b_credential) as bob:
        await bob.has(inventory(*many))
        async with plane.stream(a_credential, incarnation="life") as ada:
            await ada.knows("model-299", 1)
            whole_bytes = sum(update.ByteSize() for update in ada.updates)
        await bob.has(inventory(*many, "news"))
        await bob.knows("news", 1)
        async with plane.stream(a_credential, incarnation="life", resume=ada.table) as again:
            await again.knows("news", 1)
            assert not any(update.snapshot for update in again.updates)
            assert again.rows <= 4
            assert sum(update.ByteSize() for update in again.updates) < whole_bytes / 20
            assert len(again.table.models) == 301
        async with plane.stream(a_credential, incarnation="life", resume=again.table) as third:
            assert not third.updates[0].models, "a current table is confirmed, not sent again"


async def test_removals_are_part_of_the_difference(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    async with plane.stream(b_credential) as bob:
        await bob.has(inventory("old", "kept"))
        async with plane.stream(a_credential) as ada:
            await ada.knows("old", 1)
        await bob.has(inventory("kept"))
        await bob.knows("old", -1)
        async with plane.stream(a_credential, resume=ada.table) as again:
            assert again.ready("old") == -1
            assert [name for update in again.updates for name in update.removed_models] == ["old"]


async def test_another_generation_gets_a_snapshot(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        await ada.has(inventory("llama"))
        await ada.knows("llama", 1)
    foreign = replace(ada.table, version=Version(7, ada.table.version.revision + 10_000))
    async with plane.stream(credential, resume=foreign) as again:
        assert again.updates[0].snapshot
        assert again.table.version.generation == 1


async def test_a_sidecar_that_is_ahead_waits_for_the_watch(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        pass
    ahead = replace(ada.table, version=Version(1, await plane.store.revision() + 6))
    async with plane.stream(credential, resume=ahead, welcomed=False) as again:
        await until(lambda: again.welcome)
        await asyncio.sleep(0.2)
        assert not again.updates
        for number in range(8):
            await plane.store.put("audit/x", str(number).encode())
        await until(lambda: again.updates)
        assert again.table.version >= ahead.version


async def test_loading_endpoints_are_told_as_not_ready(plane: Plane) -> None:
    _, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        await ada.has(inventory("llama", state=ModelState.LOADING))
        await ada.knows("llama", 0)
        assert len(ada.table.models[ModelName("llama")].endpoints) == 1
        await ada.has(inventory("llama"))
        await ada.knows("llama", 1)


async def test_a_large_table_comes_in_parts_of_less_than_a_mebibyte(plane: Plane) -> None:
    _, a_credential = await plane.node("ada")
    _, b_credential = await plane.node("bob")
    names = [f"org-{number:04}/" + "a-very-long-model-name-" * 8 for number in range(1_500)]
    async with plane.stream(b_credential) as bob:
        await bob.has(inventory(*names))
        await bob.knows(names[-1], 1)
        async with plane.stream(a_credential) as ada:
            await ada.knows(names[-1], 1)
            parts = [update for update in ada.updates if update.nonce == ada.updates[0].nonce]
            assert len(parts) > 1
            assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
            assert max(part.ByteSize() for part in ada.updates) <= 1024 * 1024
            assert len(ada.table.models) == 1_500
