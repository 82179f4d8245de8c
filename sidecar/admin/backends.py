"""``/backends`` of the admin listener: what is known of each inference server of this host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.backends.figures import Figures
from sidecar.backends.finding import NO_FIGURES, Health
from sidecar.backends.poller import Poller
from sidecar.backends.registry import BackendRegistry
from swarmplane.inventory import Backend

_ENGINE = "engine"
_SETTINGS = "settings"


def backend_items(registry: BackendRegistry) -> Sequence[Mapping[str, Any]]:
    """One for each, ordered by name. URLs are told: this listener is read on the machine itself."""
    items = [item_of(poller) for poller in registry.pollers]
    items += [
        {
            **_item(backend, NO_FIGURES),
            "url": target.url if target is not None else "",
            "state": (Health.OK if backend.healthy else Health.UNREACHABLE).value,
            "source": _ENGINE,
            "key": False,
            "resident": [],
        }
        for backend, target in registry.announced
    ]
    return sorted(items, key=lambda item: str(item["name"]))


def item_of(poller: Poller) -> Mapping[str, Any]:
    """What is known of one that is polled."""
    if poller.spec.owner:
        return _foreign(poller)
    return {
        **_item(poller.backend, poller.figures),
        "url": poller.spec.url,
        "state": poller.health.value,
        "source": poller.spec.found or _SETTINGS,
        "key": poller.spec.key_file is not None,
        "resident": sorted(poller.residents),
    }


def _foreign(poller: Poller) -> Mapping[str, Any]:
    """It is not used, so of what it says only its kind is shown."""
    spec = poller.spec
    return {
        **_item(Backend(spec.name, poller.backend.kind, healthy=False), NO_FIGURES),
        "reason": f"found, belongs to {spec.owner}; add it with: swarmctl backend add {spec.url}",
        "url": spec.url,
        "state": Health.FOREIGN.value,
        "source": spec.found,
        "key": False,
        "resident": [],
        "owner": spec.owner,
    }


def _item(backend: Backend, figures: Figures) -> Mapping[str, Any]:
    return {
        "name": backend.name,
        "kind": backend.kind,
        "healthy": backend.healthy,
        "reason": backend.reason,
        "slots": backend.slots or None,
        "running": figures.running,
        "waiting": figures.waiting,
        "kv_used": figures.kv_used,
        "tokens_per_s": round(figures.tokens_per_s, 1) or None,
        "models": [
            {
                "name": model.model,
                "spelling": model.name,
                "state": model.state.value,
                "context_length": model.context_length or None,
                "quantization": model.quantization,
                "capabilities": list(model.capabilities),
            }
            for model in backend.models
        ],
    }
