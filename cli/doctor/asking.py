"""Sources that several checks share: what this host's processes and its control plane tell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cli.client.connection import connected_to
from cli.client.local import get_json
from cli.doctor.check import SkippedError, Source
from cli.doctor.host import ExaminedHost
from swarmplane.client.targets import chosen_target
from swarmplane.errors import SwarmError

Facts = Mapping[str, Any]
_HTTP_S = 3.0
_SWARM_S = 7.0


def asked(host: ExaminedHost, listener: str, path: str) -> Facts:
    """The document at ``path`` of one of this host's listeners.

    Raises:
        SkippedError: This host does not run, or has no such listener.
        UnavailableError: It does not answer.
    """
    if host.runtime is None:
        raise SkippedError("this host does not run" if host.pid is None else "this host is not ready yet")
    url = host.url(listener)
    if not url:
        raise SkippedError(f"this host has no {listener} listener")
    return get_json(url, path, timeout_s=_HTTP_S)


@dataclass(frozen=True, slots=True)
class Swarm:
    """What the control plane tells, or why it tells nothing."""

    node_id: str
    """This host's; empty where it is in no swarm."""
    nodes: tuple[Facts, ...] = ()
    problem: str = ""


async def _swarm(host: ExaminedHost) -> Swarm:
    if host.record is None and not host.called.context:
        raise SkippedError("this host is in no swarm")
    node_id = host.record.node_id if host.record is not None else ""
    try:
        target = await asyncio.to_thread(chosen_target, host.data_dir, host.called.context)
        async with asyncio.timeout(_SWARM_S), connected_to(target) as client:
            return Swarm(node_id, tuple(await client.nodes()))
    except TimeoutError:
        return Swarm(node_id, problem=f"no control plane answered within {_SWARM_S:g} s")
    except SwarmError as error:
        return Swarm(node_id, problem=error.message)


def known(swarm: Swarm) -> tuple[Facts, ...]:
    """The nodes of ``swarm``.

    Raises:
        SkippedError: It did not answer: ``control.reachable`` says so, once.
    """
    if swarm.problem:
        raise SkippedError("the control plane does not answer")
    return swarm.nodes


SWARM = Source(ask=_swarm, limit_s=_SWARM_S + 1.0)
STREAM = Source(gather=lambda host: asked(host, "admin", "/control"))
STORE = Source(gather=lambda host: asked(host, "console", "/store"))
