from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from sidecar.backends.registry import BackendRegistry
from sidecar.process.reload import Reloaded, Reloader, changed_keys
from swarmplane.errors import InvalidRequestError
from swarmplane.settings.schema import BackendSettings, LogSettings, Settings, UpstreamSettings


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
    assert await reloader.reload() == Reloaded((), ())
    assert names(registry) == ["seven", "three"]
    await reloader.reload()
    assert names(registry) == ["seven"]
