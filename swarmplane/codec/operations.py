"""Long acts, on the wire and in the store."""

from __future__ import annotations

from dataclasses import replace

from swarmplane.codec import records
from swarmplane.operation import Operation
from swarmplane.v1 import operation_pb2 as pb


def operation_to_pb(operation: Operation) -> pb.Operation:
    """``operation`` as a message."""
    return pb.Operation(
        id=operation.id,
        kind=operation.kind,
        subject=operation.subject,
        state=operation.state,
        progress=operation.progress,
        eta_s=operation.eta_s,
        code=operation.code,
        message=operation.message,
        revision=operation.revision,
    )


def operation_from_pb(message: pb.Operation) -> Operation:
    """The operation in ``message``."""
    return Operation(
        id=message.id,
        kind=message.kind,
        subject=message.subject,
        state=message.state,
        progress=message.progress,
        eta_s=message.eta_s,
        code=message.code,
        message=message.message,
        revision=message.revision,
    )


def operation_value(operation: Operation, before: bytes = b"") -> bytes:
    """``operations/<ulid>`` for ``operation``, changed in place of ``before``."""
    record = records.parse(records.Operation, before)
    message = pb.Operation.FromString(record.operation)
    changed = operation_to_pb(replace(operation, revision=0))
    for field in changed.DESCRIPTOR.fields:
        setattr(message, field.name, getattr(changed, field.name))
    record.operation = message.SerializeToString()
    return record.SerializeToString()


def operation_of(value: bytes, revision: int) -> Operation:
    """The operation that stands in the store since ``revision``."""
    message = pb.Operation.FromString(records.parse(records.Operation, value).operation)
    return replace(operation_from_pb(message), revision=revision)
