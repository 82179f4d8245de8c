"""What this host tells of itself, put together from what its parts know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.core.residents import Resident
from sidecar.routing.view import OwnEndpoint
from swarmplane import conditions
from swarmplane.conditions import Condition, EndpointCondition
from swarmplane.ids import BackendName, EndpointId
from swarmplane.inventory import Inventory, ModelState

RECENT_S: Final = 600.0
"""A model unloaded so short a time ago is probably still in the page cache."""
MOST_ENDPOINTS: Final = 1024
GRAIN_BYTES: Final = 256 * 1024 * 1024
"""Memory is told in steps: a few bytes more or less are no news."""
_STEPS: Final = 20
_BATTERY_STEP: Final = 5
_EXPIRY_STEP_S: Final = 60
"""Every use moves it: told to the second, each would be news to the whole swarm."""
_NOT_RESIDENT: Final = Resident()
_WARMTHS: Final[Mapping[ModelState, str]] = {
    ModelState.LOADED: conditions.LOADED,
    ModelState.LOADING: conditions.LOADING,
    ModelState.COLD: conditions.COLD,
}


@dataclass(frozen=True, slots=True)
class HostReading:
    """What the operating system told; None: it does not."""

    free_bytes: int | None = None
    memory_bytes: int | None = None
    pressure: float | None = None
    owner_active: bool | None = None
    overheated: bool | None = None
    disk_free_bytes: int | None = None
    battery_percent: int | None = None
    on_battery: bool | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the rest is known."""

    rate: Callable[[EndpointId], float]
    """Tokens per second of one answer; 0: unknown."""
    kv_used: Callable[[BackendName], float | None]
    idle: Callable[[EndpointId], bool]
    """Whether nothing runs there now."""
    resident: Callable[[BackendName, str], Resident | None] = lambda _backend, _model: None
    """How a model, by the backend's spelling, is loaded there."""
    told_rate: Callable[[BackendName], float] = lambda _backend: 0.0
    """Tokens per second of one answer, as the backend tells; 0: it does not. What was measured wins."""


class OwnCondition:
    """Composes reports; remembers when models were unloaded."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._loaded: frozenset[EndpointId] = frozenset()
        self._unloaded_s: dict[EndpointId, float] = {}

    def compose(
        self,
        reading: HostReading,
        own: Mapping[EndpointId, OwnEndpoint],
        inventory: Inventory,
        now_s: float,
    ) -> Condition:
        """How this host and its endpoints are at ``now_s``. O(endpoints)."""
        loaded = frozenset(key for key, one in own.items() if one.state is ModelState.LOADED)
        for key in self._loaded - loaded:
            if key in own:
                self._unloaded_s[key] = now_s
        self._loaded = loaded
        self._unloaded_s = {
            key: at_s
            for key, at_s in self._unloaded_s.items()
            if key in own and key not in loaded and now_s - at_s < RECENT_S
        }
        sizes = {(b.name, m.name): m.size_bytes for b in inventory.backends for m in b.models}
        told = tuple(self._endpoint(key, one, sizes) for key, one in list(own.items())[:MOST_ENDPOINTS])
        return Condition(
            free_bytes=self._free_bytes(reading, own, sizes),
            memory_bytes=reading.memory_bytes,
            pressure=_stepped(reading.pressure),
            owner_active=reading.owner_active,
            overheated=reading.overheated,
            disk_free_bytes=_grained(reading.disk_free_bytes, GRAIN_BYTES * 4),
            battery_percent=_grained(reading.battery_percent, _BATTERY_STEP),
            on_battery=reading.on_battery,
            endpoints=told,
        )

    def _endpoint(
        self, key: EndpointId, one: OwnEndpoint, sizes: Mapping[tuple[BackendName, str], int]
    ) -> EndpointCondition:
        warmth = _WARMTHS.get(one.state, "")
        if warmth == conditions.COLD and key in self._unloaded_s:
            warmth = conditions.RECENT
        backend = one.endpoint.backend
        resident = self._sources.resident(backend, one.endpoint.model) or _NOT_RESIDENT
        return EndpointCondition(
            key,
            warmth,
            size_bytes=sizes.get((backend, one.endpoint.model), 0),
            tokens_per_s=float(f"{self._sources.rate(key) or self._sources.told_rate(backend):.2g}"),
            kv_used=_stepped(self._sources.kv_used(backend)),
            resident_context=resident.context,
            expires_at_s=-(-resident.expires_at_s // _EXPIRY_STEP_S) * _EXPIRY_STEP_S,
            vram_bytes=resident.vram_bytes,
        )

    def _free_bytes(
        self,
        reading: HostReading,
        own: Mapping[EndpointId, OwnEndpoint],
        sizes: Mapping[tuple[BackendName, str], int],
    ) -> int | None:
        """Free memory with what idle models would free, where their backend loads and unloads by itself."""
        if reading.free_bytes is None:
            return None
        swapping = {one.endpoint.backend for one in own.values() if one.state is ModelState.COLD}
        freed = sum(
            sizes.get((one.endpoint.backend, one.endpoint.model), 0)
            for key, one in own.items()
            if one.state is ModelState.LOADED and one.endpoint.backend in swapping and self._sources.idle(key)
        )
        return (reading.free_bytes + freed) // GRAIN_BYTES * GRAIN_BYTES


def _grained(figure: int | None, grain: int) -> int | None:
    return None if figure is None else figure // grain * grain


def _stepped(share: float | None) -> float | None:
    return None if share is None else round(share * _STEPS) / _STEPS
