"""What a node has, as its sidecar reports it and as routes are compiled from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from swarmplane.ids import BackendName, ModelName
from swarmplane.traits import Traits, bounded


class ModelState(Enum):
    """How far a backend is with a model."""

    LOADED = "loaded"
    LOADING = "loading"
    COLD = "cold"
    """Served on demand: the backend loads it when asked."""
    FAILED = "failed"

    @property
    def ready(self) -> bool:
        """Whether a request may be sent."""
        return self in {ModelState.LOADED, ModelState.COLD}


@dataclass(frozen=True, slots=True)
class BackendModel:
    """A model at a backend."""

    name: str
    """The backend's own spelling."""
    canonical: ModelName | None = None
    """The name users ask for; None: the same."""
    state: ModelState = ModelState.LOADED
    context_length: int = 0
    """Tokens; 0 where unknown, as every figure here."""
    size_bytes: int = 0
    capabilities: tuple[str, ...] = ()
    digest: str = ""
    quantization: str = ""
    family: str = ""
    format: str = ""
    """Of its file, as ``gguf``."""
    parameter_size: str = ""
    """As ``8.0B``."""
    trained_context: int = 0
    modified_s: int = 0
    """Unix seconds of the last change of its file."""

    @property
    def model(self) -> ModelName:
        """The canonical name."""
        return self.canonical or ModelName(self.name)

    @property
    def traits(self) -> Traits:
        """What is known of its weights, as far as it can be believed."""
        return bounded(
            Traits(
                digest=self.digest,
                family=self.family,
                format=self.format,
                parameter_size=self.parameter_size,
                quantization=self.quantization,
                size_bytes=self.size_bytes,
                capabilities=self.capabilities,
                trained_context=self.trained_context,
                modified_s=self.modified_s,
            )
        )


@dataclass(frozen=True, slots=True)
class Backend:
    """An inference server of a node."""

    name: BackendName
    kind: str
    """``openai``, ``llama-server``, ``xllamacpp``, ``ollama``, ``vllm``…"""
    healthy: bool = True
    reason: str = ""
    """Why it is not healthy, for people; no addresses, no secrets."""
    models: tuple[BackendModel, ...] = ()
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Gpu:
    """An accelerator that models may run on."""

    name: str
    """As its driver calls it."""
    kind: str
    """``nvidia``, ``amd`` or ``apple``."""
    memory_bytes: int = 0
    """Its own; 0 where unknown, or where it shares the host's."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host is, beside its backends. It changes seldom, and is told to the control plane."""

    cpu: str = ""
    """The processor's name, for people; empty: unknown."""
    gpus: tuple[Gpu, ...] | None = None
    """All of them; None: unknown."""
    disk_bytes: int = 0
    """Size of the disk that holds the data directory; 0: unknown."""
    gateway_url: str = ""
    """Where clients of other machines are meant to ask; empty: it is no gateway."""


UNKNOWN_HOST = HostFacts()


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a node has."""

    backends: tuple[Backend, ...] = ()
    memory_bytes: int = 0
    cpus: int = 0
    host: HostFacts = UNKNOWN_HOST
