"""Servers of other users are shown, not used; places where nobody listens are hardly tried."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from sidecar.admin.backends import backend_items
from sidecar.backends import finder as finding
from sidecar.backends.finder import Finder, Search
from sidecar.backends.listening import Listening
from sidecar.backends.registry import BackendRegistry
from sidecar.backends.target import BackendSpec
from tests.fakes.clock import FakeClock
from tests.fakes.finders import finding_at, until
from tests.fakes.kinds import running_kind

LOOPBACK = ipaddress.ip_address("127.0.0.1")
STRANGER = 54_321


class Machine:
    """What the system tells of who listens."""

    def __init__(self) -> None:
        self.users: dict[int, int] = {}

    def read(self) -> Listening:
        return Listening({port: ((LOOPBACK, user),) for port, user in self.users.items()})


async def test_another_users_server_is_shown_and_not_used_until_it_is_named() -> None:
    """Kills: adopting whoever listens; showing a stranger's models; a name that changes nothing."""
    machine = Machine()
    async with running_kind("vllm", "theirs") as server:
        machine.users[server.port] = STRANGER
        async with finding_at(server.port, read=machine.read) as (registry, _):
            assert registry.inventory().backends == ()
            assert dict(registry.targets) == {}
            (item,) = backend_items(registry)
            assert (item["state"], item["healthy"], item["models"]) == ("another user's", False, [])
            url = f"http://127.0.0.1:{server.port}"
            assert item["reason"] == (
                f"found, belongs to user {STRANGER}; add it with: swarmctl backend add {url}"
            )
            registry.add(BackendSpec.from_url(url))
            await until(lambda: [one.healthy for one in registry.inventory().backends] == [True])
            (item,) = backend_items(registry)
            assert (item["state"], item["source"]) == ("ok", "settings")


async def test_a_place_that_changes_hands_is_judged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: trusting a place for good once it was trusted, and distrusting it for good."""
    monkeypatch.setattr(finding, "SWEEP_S", 0.02)
    machine = Machine()
    async with running_kind("omlx", "m") as server:
        machine.users[server.port] = 0
        async with finding_at(server.port, read=machine.read) as (registry, _):
            assert [one.healthy for one in registry.inventory().backends] == [True]
            machine.users[server.port] = STRANGER
            await until(lambda: not registry.inventory().backends)
            await until(lambda: [one["state"] for one in backend_items(registry)] == ["another user's"])
            machine.users[server.port] = 0
            await until(lambda: registry.inventory().backends)
            machine.users[server.port] = STRANGER
            await until(lambda: [one["state"] for one in backend_items(registry)] == ["another user's"])
            del machine.users[server.port]
            await server.stop()
            await until(lambda: not backend_items(registry))


async def test_a_strangers_page_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "SWEEP_S", 0.02)
    machine = Machine()
    async with running_kind("impostor") as server:
        machine.users[server.port] = STRANGER
        async with finding_at(server.port, read=machine.read) as (registry, _):
            await until(lambda: server.seen)
            await asyncio.sleep(0.1)
            assert backend_items(registry) == []


@pytest.mark.parametrize("listed", [False, True])
async def test_where_nobody_answers_is_tried_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    """Also where a socket is ``listed`` that takes IPv6 only.

    Kills: connecting at every sweep; a pause that grows for ever; a reload that waits for it.
    """
    tried: list[float] = []
    clock, machine = FakeClock(), Machine()
    if listed:
        machine.users[9] = 0

    async def refuses(_spec: BackendSpec) -> bool:
        tried.append(clock.now_s())
        return False

    monkeypatch.setattr(finding, "takes_connections", refuses)
    finder = Finder(
        BackendRegistry(), Search(on=True, ports=(9,)), clock, {}, read=machine.read, draw=lambda: 0.0
    )
    for _ in range(100):
        await finder.sweep()
        await clock.advance(1.0)
    assert tried == [0.0, 2.0, 6.0, 14.0, 30.0, 60.0, 90.0]
    finder.adopt(Search(on=True, ports=(9,)))
    await finder.sweep()
    assert tried[-1] == clock.now_s()


async def test_who_is_seen_to_listen_is_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: waiting for the pause of a place where nobody was."""
    monkeypatch.setattr(finding, "SWEEP_S", 0.02)
    machine = Machine()
    async with running_kind("vllm", "m") as server:
        port = server.port
    async with finding_at(port, read=machine.read) as (registry, _):
        await asyncio.sleep(0.1)
        assert backend_items(registry) == []
        async with running_kind("vllm", "m", port=port):
            await asyncio.sleep(0.1)
            assert backend_items(registry) == []  # the system knows of nobody, and it was refused just now
            machine.users[port] = 0
            await until(lambda: registry.inventory().backends)


async def test_without_word_of_the_system_every_place_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows; and who takes connections though nobody listens has no owner to go by."""
    tried: list[int] = []

    async def refuses(spec: BackendSpec) -> bool:
        tried.append(spec.port)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(finding, "takes_connections", refuses)
        finder = Finder(BackendRegistry(), Search(on=True, ports=(9,)), FakeClock(), {}, read=lambda: None)
        for _ in range(3):
            await finder.sweep()
        assert tried == [9, 9, 9]
    async with (
        running_kind("vllm", "m") as server,
        finding_at(server.port, read=Machine().read) as (registry, _),
    ):
        await until(lambda: registry.inventory().backends)
        assert [item["state"] for item in backend_items(registry)] == ["ok"]
