"""The hop between two sidecars: what the sender says, and how the owner refuses (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.core.answers import Refusal
from sidecar.dataplane.headers import Header, from_header, to_header
from swarmplane.errors import Code
from swarmplane.ids import EndpointId, NodeId

QUEUED: Final = "queued"
LOADING: Final = "loading"
RUNNING: Final = "running"
_REFUSALS: Final[Mapping[Code, Refusal]] = {
    Code.MODEL_NOT_FOUND: Refusal.GONE,
    Code.NO_REPLICA: Refusal.GONE,
    Code.SATURATED: Refusal.FULL,
    Code.DRAINING: Refusal.DRAINING,
    Code.MODEL_LOADING: Refusal.LOADING,
}


@dataclass(frozen=True, slots=True)
class Hop:
    """What a peer says about a request it sends."""

    sender: NodeId
    origin: str
    """Node at which the request entered; load is counted by it."""
    model: str
    """Canonical name; the body has the name the client asked for."""
    endpoint: EndpointId
    """A hint: any local replica of the model will do."""
    deadline_ms: int | None = None
    attempt: int = 1
    queued_ms: int = 0
    """For how long it waited in queues so far."""
    key: str = ""
    """Id of the client's key; empty where it has none."""


def read_hop(options: Mapping[bytes, bytes], sender: NodeId) -> Hop | None:
    """The hop headers of a request from the peer ``sender``; None if they are missing or not its own."""
    named = options.get(b"x-swarm-hop", b"").decode("latin-1")
    model = options.get(b"x-swarm-model", b"").decode("latin-1")
    if named != sender or not model:
        return None
    deadline = options.get(b"x-swarm-deadline-ms", b"")
    attempt = options.get(b"x-swarm-attempt", b"")
    queued = options.get(b"x-swarm-queued-ms", b"")
    origin = options.get(b"x-swarm-origin", b"").decode("latin-1")
    return Hop(
        sender=sender,
        origin=origin or named,
        model=from_header(model),
        endpoint=EndpointId(from_header(options.get(b"x-swarm-endpoint", b"").decode("latin-1"))),
        deadline_ms=int(deadline) if _is_number(deadline) else None,
        attempt=int(attempt) if _is_number(attempt) else 1,
        queued_ms=int(queued) if _is_number(queued) else 0,
        key=options.get(b"x-swarm-key", b"").decode("latin-1"),
    )


_DIGITS: Final = 12


def _is_number(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _DIGITS


def hop_lines(
    node: NodeId, *, model: str, endpoint: EndpointId, version: str, priority: str = "", key: str = ""
) -> bytes:
    """Header lines that a sender adds to every request for an endpoint."""
    lines = (
        b"x-swarm-hop: %b\r\nx-swarm-origin: %b\r\nx-swarm-model: %b\r\nx-swarm-endpoint: %b\r\n"
        b"x-swarm-route-version: %b\r\n"
    ) % (node.encode(), node.encode(), to_header(model), to_header(endpoint), version.encode())
    if (named := priority.strip().lower()) in {"interactive", "default", "bulk"}:
        lines += b"x-swarm-priority: %b\r\n" % named.encode()
    if key:
        lines += b"x-swarm-key: %b\r\n" % key.encode()
    return lines


def deadline_line(left_s: float) -> bytes:
    """The header line that says how much time a request has left."""
    return b"x-swarm-deadline-ms: %d\r\n" % max(int(left_s * 1000), 0)


def queued_line(queued_s: float) -> bytes:
    """The header line that says for how long a request has waited in queues."""
    return b"x-swarm-queued-ms: %d\r\n" % max(int(queued_s * 1000), 0)


def refusal_of(code: Code, *, expired: bool = False) -> Refusal | None:
    """How an owner that answers ``code`` itself tells the sender so; None: it failed, it does not refuse."""
    return Refusal.EXPIRED if expired else _REFUSALS.get(code)


def phase_message(phase: str, load: bytes = b"") -> bytes:
    """``102 Processing`` with the phase, and the owner's load as every answer has it."""
    return b"HTTP/1.1 102 Processing\r\nx-swarm-phase: %b\r\n%b\r\n" % (phase.encode(), load)


def read_phase(headers: list[Header]) -> str:
    """The phase that a 1xx message reports; empty where it reports none."""
    for name, value in headers:
        if name == b"x-swarm-phase":
            return value.partition(b";")[0].strip().decode("latin-1")
    return ""


def find(headers: list[Header], name: bytes) -> str | None:
    """The first header called ``name``, as text."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None
