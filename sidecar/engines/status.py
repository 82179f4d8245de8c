"""How an engine is doing, for people and for the control plane."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from swarmplane.ids import BackendName, ModelName
from swarmplane.inventory import ModelState


class EngineState(Enum):
    """Where an engine is in its life."""

    STOPPED = "stopped"
    STARTING = "starting"
    """Its process does not answer yet."""
    LOADING = "loading"
    """It answers that it loads its model."""
    READY = "ready"
    BACKING_OFF = "backing_off"
    """It ended and will be started again."""
    FAILED = "failed"
    """It can't be started as things are, or ends again and again. It is tried again now and then."""

    @property
    def model_state(self) -> ModelState:
        """What clients are told of its model."""
        if self is EngineState.READY:
            return ModelState.LOADED
        if self in {EngineState.FAILED, EngineState.STOPPED}:
            return ModelState.FAILED
        return ModelState.LOADING


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine now."""

    name: BackendName
    """Also that of its backend."""
    model: ModelName
    state: EngineState = EngineState.STARTING
    reason: str = ""
    """Why it is not ready, for people."""
    kind: str = ""
    """``llama-server``, ``xllamacpp`` or ``llama-cpp-python``; empty before one was found."""
    restarts: int = 0
    """Starts after an end that nobody asked for."""
    eta_s: float = 0.0
    """Seconds from the change of state until the next start; 0: unknown or none."""
    pid: int = 0
    exit_code: int | None = None
    """Of the last process that ended; negative: the signal."""
    last_lines: tuple[str, ...] = ()
    """End of the log of the last process that ended by itself."""
    log: Path | None = None
