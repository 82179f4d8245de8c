"""What a node has, on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarmplane.ids import BackendName, ModelName
from swarmplane.inventory import Backend, BackendModel, Gpu, HostFacts, Inventory, ModelState
from swarmplane.v1 import sidecar_pb2 as pb


def inventory_to_pb(inventory: Inventory) -> pb.Inventory:
    """``inventory`` as a message."""
    return pb.Inventory(
        backends=[_backend_to_pb(backend) for backend in inventory.backends],
        memory_bytes=inventory.memory_bytes,
        cpus=inventory.cpus,
        cpu=inventory.host.cpu,
        gpus=gpus_to_pb(inventory.host.gpus),
        gpus_known=inventory.host.gpus is not None,
        disk_bytes=inventory.host.disk_bytes,
        gateway_url=inventory.host.gateway_url,
    )


def inventory_from_pb(message: pb.Inventory) -> Inventory:
    """The inventory in ``message``. A model state that this version does not know counts as failed."""
    return Inventory(
        backends=tuple(_backend_from_pb(backend) for backend in message.backends),
        memory_bytes=message.memory_bytes,
        cpus=message.cpus,
        host=HostFacts(
            message.cpu,
            gpus_from_pb(message.gpus) if message.gpus_known else None,
            message.disk_bytes,
            message.gateway_url,
        ),
    )


def gpus_to_pb(gpus: Sequence[Gpu] | None) -> list[pb.Gpu]:
    """``gpus`` as messages; whether they are known is said beside them."""
    return [pb.Gpu(name=one.name, kind=one.kind, memory_bytes=one.memory_bytes) for one in gpus or ()]


def gpus_from_pb(messages: Iterable[pb.Gpu]) -> tuple[Gpu, ...]:
    """The accelerators in ``messages``."""
    return tuple(Gpu(one.name, one.kind, one.memory_bytes) for one in messages)


def inventory_from_bytes(content: bytes) -> Inventory:
    """The inventory in a serialised message, as records keep it."""
    return inventory_from_pb(pb.Inventory.FromString(content))


def _backend_to_pb(backend: Backend) -> pb.Backend:
    return pb.Backend(
        name=backend.name,
        kind=backend.kind,
        healthy=backend.healthy,
        reason=backend.reason,
        models=[_model_to_pb(model) for model in backend.models],
        slots=backend.slots,
    )


def _model_to_pb(model: BackendModel) -> pb.BackendModel:
    return pb.BackendModel(
        name=model.name,
        canonical=model.canonical or "",
        context_length=model.context_length,
        size_bytes=model.size_bytes,
        state=model.state.value,
        capabilities=model.capabilities,
        digest=model.digest,
        quantization=model.quantization,
        family=model.family,
        format=model.format,
        parameter_size=model.parameter_size,
        trained_context=model.trained_context,
        modified_s=model.modified_s,
    )


def _backend_from_pb(message: pb.Backend) -> Backend:
    return Backend(
        name=BackendName(message.name),
        kind=message.kind,
        healthy=message.healthy,
        reason=message.reason,
        models=tuple(_model_from_pb(model) for model in message.models),
        slots=message.slots,
    )


def _model_from_pb(message: pb.BackendModel) -> BackendModel:
    return BackendModel(
        name=message.name,
        canonical=ModelName(message.canonical) if message.canonical else None,
        state=_STATES.get(message.state, ModelState.FAILED),
        context_length=message.context_length,
        size_bytes=message.size_bytes,
        capabilities=tuple(message.capabilities),
        digest=message.digest,
        quantization=message.quantization,
        family=message.family,
        format=message.format,
        parameter_size=message.parameter_size,
        trained_context=message.trained_context,
        modified_s=message.modified_s,
    )


_STATES = {state.value: state for state in ModelState}
