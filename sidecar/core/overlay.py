"""What this sidecar learned by itself and lays over the table: gone, full and ejected endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from sidecar.core.backoff import doubling_s
from swarmplane.routes import Version

GONE_S: Final = 30.0
"""Without a newer table a gone endpoint is asked again after this: the control plane may be dead for long."""
EJECTION_BASE_S: Final = 1.0
EJECTION_CAP_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Gone:
    """An endpoint answered that it does not have the model."""

    version: Version
    """Of the table that listed it."""
    until_s: float


@dataclass(frozen=True, slots=True)
class Ejection:
    """An endpoint or node that could not be connected to."""

    times: int
    """Failures in a row."""
    until_s: float


_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def _none() -> Mapping[str, Any]:
    return _EMPTY


@dataclass(frozen=True, slots=True)
class Overlay:
    """Keys are endpoint ids; ejections are of node ids too. A value: every change gives a new one."""

    gone: Mapping[str, Gone] = field(default_factory=_none)
    ejected: Mapping[str, Ejection] = field(default_factory=_none)
    full: Mapping[str, float] = field(default_factory=_none)
    """Until when each is taken for full."""

    def is_gone(self, endpoint: str, version: Version, now_s: float) -> bool:
        """Whether ``endpoint`` is to be left out of a table of ``version``."""
        gone = self.gone.get(endpoint)
        return gone is not None and gone.version == version and now_s < gone.until_s

    def admits(self, target: str, now_s: float) -> bool:
        """Whether ``target`` (an endpoint or a node) is not ejected at ``now_s``."""
        ejection = self.ejected.get(target)
        return ejection is None or now_s >= ejection.until_s

    def full_for_s(self, endpoint: str, now_s: float) -> float:
        """Seconds for which ``endpoint`` is still taken for full; 0: it may be asked."""
        return max(0.0, self.full.get(endpoint, 0.0) - now_s)


def learn_gone(overlay: Overlay, endpoint: str, version: Version, now_s: float) -> Overlay:
    """``endpoint`` does not have the model that the table of ``version`` lists."""
    return replace(overlay, gone=_with(overlay.gone, endpoint, Gone(version, now_s + GONE_S)))


def hold_full(overlay: Overlay, endpoint: str, until_s: float) -> Overlay:
    """``endpoint`` said that it is full; do not ask it before ``until_s``."""
    return replace(overlay, full=_with(overlay.full, endpoint, until_s))


def has_room(overlay: Overlay, endpoint: str) -> Overlay:
    """``endpoint`` reported a free slot."""
    return replace(overlay, full=_without(overlay.full, endpoint)) if endpoint in overlay.full else overlay


def eject(overlay: Overlay, target: str, until_s: float) -> Overlay:
    """Leave ``target`` out until ``until_s``; counts as one more failure in a row."""
    before = overlay.ejected.get(target)
    ejection = Ejection((before.times if before else 0) + 1, until_s)
    return replace(overlay, ejected=_with(overlay.ejected, target, ejection))


def connect_failed(overlay: Overlay, target: str, now_s: float, draw: float) -> Overlay:
    """``target`` could not be connected to: leave it out for 1 s, doubling to 60 s, jittered by ``draw``.

    Total: a late failure of an attempt that began before an ejection does not prolong it.
    """
    if not overlay.admits(target, now_s):
        return overlay
    before = overlay.ejected.get(target)
    wait_s = doubling_s(before.times if before else 0, base_s=EJECTION_BASE_S, cap_s=EJECTION_CAP_S)
    return eject(overlay, target, now_s + wait_s * (1.0 + draw / 2.0))


def reached(overlay: Overlay, target: str) -> Overlay:
    """``target`` answered, or started anew: its failures are forgotten. The same value where it had none."""
    if target not in overlay.ejected:
        return overlay
    return replace(overlay, ejected=_without(overlay.ejected, target))


def forget(overlay: Overlay, endpoint: str) -> Overlay:
    """Newer evidence about ``endpoint`` came: drop all that was learned of it."""
    return Overlay(
        gone=_without(overlay.gone, endpoint),
        ejected=_without(overlay.ejected, endpoint),
        full=_without(overlay.full, endpoint),
    )


def pruned(overlay: Overlay, version: Version, now_s: float) -> Overlay:
    """Without what has no effect any more under a table of ``version``: keeps the overlay small.

    Ejections stay for their cap after they ended, so that a target which fails again waits longer.
    """
    return Overlay(
        gone=MappingProxyType({k: g for k, g in overlay.gone.items() if overlay.is_gone(k, version, now_s)}),
        ejected=MappingProxyType(
            {k: e for k, e in overlay.ejected.items() if now_s < e.until_s + EJECTION_CAP_S}
        ),
        full=MappingProxyType({k: until_s for k, until_s in overlay.full.items() if now_s < until_s}),
    )


V = TypeVar("V")


def _with(mapping: Mapping[str, V], key: str, value: V) -> Mapping[str, V]:
    return MappingProxyType({**mapping, key: value})


def _without(mapping: Mapping[str, V], key: str) -> Mapping[str, V]:
    return MappingProxyType({k: v for k, v in mapping.items() if k != key})
