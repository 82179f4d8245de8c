"""A stream outlives an outage of the store: nothing is renewed meanwhile, and everything is afterwards.

Mutants that were tried and are killed: a renewal that is not tried again, or not after one in doubt; an
inventory that is given up; the older of two inventories.
"""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.services import keyspace
from controlplane.store.port import StoreUnavailableError, UncertainError
from swarmplane.ids import NodeId
from swarmplane.v1 import sidecar_pb2 as pb
from tests.fakes.authority import until
from tests.fakes.clock import FakeClock
from tests.fakes.control import Plane, inventory


class Away:
    """Has the store refuse renewals and writes; counts what it was asked."""

    def __init__(self, plane: Plane, patch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        self.renewals = 0
        self.writes = 0
        keep_alive, transact = plane.store.keep_alive, plane.store.transact

        async def kept(lease: int) -> bool:
            self.renewals += 1
            self._check()
            return await keep_alive(lease)

        async def written(*arguments: Any, **more: Any) -> Any:
            self.writes += 1
            self._check()
            return await transact(*arguments, **more)

        patch.setattr(plane.store, "keep_alive", kept)
        patch.setattr(plane.store, "transact", written)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("it is away"), UncertainError("who knows")], ids=["away", "in-doubt"]
)
async def test_a_stream_stays_and_its_lease_is_renewed_afterwards(
    still_plane: Plane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plane = still_plane
    node, credential = await plane.node("ada")
    away = Away(plane, monkeypatch)
    async with plane.stream(credential) as ada:
        session = plane.control.sessions.open[node]
        away.error = error
        for _ in range(4):
            await clock.advance(1.0)
            await ada.beat()
            await until(lambda: plane.control.sessions.silent_s(node) == 0)
        assert not ada.ended, ada.last_word
        assert plane.control.membership.suspects == frozenset()
        assert away.renewals > 1, "renewals are tried again"
        away.error = None
        renewals = away.renewals
        await clock.advance(1.0)
        await until(lambda: away.renewals > renewals)
        await clock.advance(4.0)
        assert (await plane.store.lease_remaining(session.lease) or 0) > 0, "it got its full time again"
        assert plane.control.sessions.open[node] is session
        assert not ada.ended


@pytest.mark.parametrize("said", [("old",), ("old", "new")], ids=["the-only", "the-newest"])
async def test_an_inventory_is_written_when_the_store_is_back(
    still_plane: Plane, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...]
) -> None:
    plane = still_plane
    node, credential = await plane.node("ada")
    away = Away(plane, monkeypatch)
    async with plane.stream(credential) as ada:
        away.error = StoreUnavailableError("it is away")
        writes = away.writes
        for model in said:
            await clock.advance(0.1)
            await ada.has(inventory(model))
            await until(lambda: plane.control.sessions.silent_s(node) == 0 or ada.ended)
            await until(lambda: away.writes > writes)
        for _ in range(2):
            await clock.advance(0.6)
        assert await plane.store.get(keyspace.inventory(node)) is None
        away.error = None
        for _ in range(3):
            await clock.advance(0.6)
        await until(lambda: plane.control.sessions.open[node].inventory is not None)
        stored = await plane.store.get(keyspace.inventory(node))
        assert stored is not None
        assert [model.encode() in stored.value for model in ("old", "new")] == [
            model == said[-1] for model in ("old", "new")
        ]
        assert not ada.ended


async def test_a_lease_that_ended_meanwhile_ends_the_stream(plane: Plane) -> None:
    node, credential = await plane.node("ada")
    async with plane.stream(credential) as ada:
        await plane.store.revoke(plane.control.sessions.open[NodeId(node)].lease)
        await ada.beat()
        await until(lambda: ada.ended)
        assert ada.last_word is not None
        assert (ada.last_word.reject.code, ada.last_word.reject.retry) == ("stale_epoch", True)


async def test_a_farewell_while_a_renewal_waits_is_no_refusal(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, credential = await plane.node("ada")
    away = Away(plane, monkeypatch)
    async with plane.stream(credential) as ada:
        away.error = StoreUnavailableError("it is away")
        await ada.beat()
        await until(lambda: away.renewals > 0)
        away.error = None
        await ada.send(goodbye=pb.Goodbye(reason="test"))
        await until(lambda: ada.ended)
        assert ada.last_word is None
