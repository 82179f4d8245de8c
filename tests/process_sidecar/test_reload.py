from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.dataplane.policy import LIVE, DataPlanePolicy
from sidecar.process.reload import Reloaded, Reloader, changed_keys
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.schema import (
    BackendSettings,
    ClientSettings,
    LogSettings,
    Settings,
    UpstreamSettings,
)


@pytest.fixture(autouse=True)
def log_state() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def with_backends(*names: str, **others: object) -> Settings:
    backends = tuple(BackendSettings(url=f"http://127.0.0.1:{9000 + len(n)}", name=n) for n in names)
    return Settings(backends=backends, **others)  # type: ignore[arg-type]


def names(registry: BackendRegistry) -> list[str]:
    return [backend.name for backend in registry.inventory().backends]


def test_which_keys_changed_and_which_of_them_need_a_restart() -> None:
    after = with_backends("a", log=LogSettings(level="debug"), upstream=UpstreamSettings(max_idle=1))
    assert changed_keys(Settings(), after) == Reloaded(("backends", "log.level"), ("upstream.max_idle",))
    assert changed_keys(after, after) == Reloaded((), ())


async def test_backends_follow_the_settings_and_wrong_ones_change_nothing() -> None:
    registry = BackendRegistry()
    offered: list[Settings | Exception] = [
        with_backends("one", "three"),
        with_backends("three", "seven"),
        InvalidRequestError("drain_s = 'soon' is wrong"),
        with_backends("seven", "seven"),
    ]

    def read() -> Settings:
        offer = offered.pop(0)
        if isinstance(offer, Exception):
            raise offer
        return offer

    reloader = Reloader(Settings(), read, registry)
    assert await reloader.reload() == Reloaded(("backends",), ())
    assert names(registry) == ["one", "three"]
    await reloader.reload()
    assert names(registry) == ["seven", "three"]
    assert await reloader.reload() == Reloaded((), (), "drain_s = 'soon' is wrong")
    assert names(registry) == ["seven", "three"]
    await reloader.reload()
    assert names(registry) == ["seven"]


async def test_limits_are_adopted_and_what_needs_a_restart_is_named_until_then() -> None:
    offered = [
        Settings(client=ClientSettings(max_json_bytes=9), upstream=UpstreamSettings(max_idle=1)),
        Settings(client=ClientSettings(max_json_bytes=8), upstream=UpstreamSettings(max_idle=1)),
        InvalidRequestError("drain_s = 'soon' is wrong"),
    ]
    adopted: list[Settings] = []

    def read() -> Settings:
        offer = offered.pop(0)
        if isinstance(offer, Exception):
            raise offer
        return offer

    reloader = Reloader(Settings(), read, BackendRegistry(), adopted.append)
    expected = {"applied": ["client.max_json_bytes"], "restart_needed": ["upstream.max_idle"]}
    assert await reloader.answer() == expected
    assert await reloader.answer() == expected
    assert [settings.client.max_json_bytes for settings in adopted] == [9, 8]
    with pytest.raises(InvalidRequestError, match="soon"):
        await reloader.answer()
    assert len(adopted) == 2


def test_what_is_adopted_is_exactly_what_is_named() -> None:
    before = DataPlanePolicy()
    other = DataPlanePolicy(max_json_bytes=7, stall_timeout_s=1.0, max_idle=3, hosts=("x",), tick_s=9.0)
    after = before.adopting(other)
    assert (after.max_json_bytes, after.stall_timeout_s) == (7, 1.0)
    assert (after.max_idle, after.hosts, after.tick_s) == (before.max_idle, (), before.tick_s)
    known = Settings().model_dump()
    assert all(name.partition(".")[2] in known[name.partition(".")[0]] for name in LIVE)
