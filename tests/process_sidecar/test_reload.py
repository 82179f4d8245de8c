from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import get_args

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
    PeerSettings,
    Settings,
)
from swarmplane.settings.serving import BreakerSettings, HedgeSettings, QueueSettings


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
    after = with_backends("a", log=LogSettings(level="debug"), peer=PeerSettings(listen="[::1]:9"))
    assert changed_keys(Settings(), after) == Reloaded(("backends", "log.level"), ("peer.listen",))
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
        Settings(client=ClientSettings(max_json_bytes=9), peer=PeerSettings(listen="[::1]:9")),
        Settings(client=ClientSettings(max_json_bytes=8), peer=PeerSettings(listen="[::1]:9")),
        InvalidRequestError("drain_s = 'soon' is wrong"),
    ]
    adopted: list[Settings] = []

    def read() -> Settings:
        offer = offered.pop(0)
        if isinstance(offer, Exception):
            raise offer
        return offer

    reloader = Reloader(Settings(), read, BackendRegistry(), adopted.append)
    expected = {"applied": ["client.max_json_bytes"], "restart_needed": ["peer.listen"]}
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
    assert (after.max_json_bytes, after.stall_timeout_s, after.max_idle) == (7, 1.0, 3)
    assert (after.hosts, after.tick_s) == ((), before.tick_s)
    known = Settings().model_dump()
    assert all(name.partition(".")[2] in known[name.partition(".")[0]] for name in LIVE)


@pytest.mark.parametrize("key", LIVE)
def test_each_setting_that_is_named_changes_what_is_adopted(key: str) -> None:
    """Kills: a key that is called applied and is not. Whole tables at once: the fields stand apart."""
    table, _, name = key.partition(".")
    section = type(getattr(Settings(), table))
    usual = getattr(section(), name)
    if isinstance(usual, bool):
        other: object = not usual
    elif isinstance(usual, str):
        words = get_args(section.model_fields[name].annotation)
        other = next(word for word in words if word != usual)
    elif isinstance(usual, tuple):
        other = ("192.0.2.0/24",)
    elif usual is None:
        other = 7.0
    else:
        other = usual + 1 if isinstance(usual, int) else usual / 2
    changed = Settings(**{table: section(**{name: other})})
    before = DataPlanePolicy.of(Settings())
    assert before.adopting(DataPlanePolicy.of(changed)) != before
    assert before.adopting(DataPlanePolicy.of(changed)) == DataPlanePolicy.of(changed)


def test_what_the_settings_say_of_breakers_queues_and_copies() -> None:
    """Kills: two figures swapped."""
    policy = DataPlanePolicy.of(
        Settings(
            breaker=BreakerSettings(
                max_failures=2, min_success_rate=0.3, min_requests=4, window_s=5, ejection_s=6,
                max_ejection_s=7, probe_limit_s=8, slow_start_s=9,
            ),
            hedge=HedgeSettings(enabled=True, factor=2, floor_s=3, unknown_s=4, max_ratio=0.5),
            queue=QueueSettings(learn_slots=False, bulk=3),
        )
    )  # fmt: skip
    breaker, hedge = policy.breaker, policy.hedge
    assert (breaker.max_failures, breaker.max_local_failures, breaker.min_success_rate) == (2, 2, 0.3)
    assert (breaker.min_requests, breaker.window_s, breaker.base_backoff_s) == (4, 5, 6)
    assert (breaker.max_backoff_s, breaker.probe_limit_s, policy.slow_start.window_s) == (7, 8, 9)
    assert (hedge.enabled, hedge.factor, hedge.floor_s, hedge.unknown_s, hedge.max_share) == (
        True,
        2,
        3,
        4,
        0.5,
    )
    assert (policy.learn_slots, policy.queue.bulk.length) == (False, 3)
