"""The control port is served by several servers where the platform spreads connections, and by us alone.

Mutants that were tried and are killed: one server; services on the first only; servers that are not started.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controlplane.rpc.server import RpcServers
from controlplane.services.callers import Callers
from swarmplane.errors import UnavailableError
from swarmplane.listening import listening_socket
from tests.fakes.authority import ANY_PORT, CALL_S, Instance, running_instance

CHANNELS = 24


def listeners(port: int) -> int:
    """How many of this process listen at ``port``."""
    found = psutil.Process(os.getpid()).net_connections("tcp")
    return sum(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)


async def test_all_servers_of_the_control_port_answer_and_stop(tmp_path: Path) -> None:
    async with running_instance(tmp_path / "founder") as instance:
        bound = instance.servers.control_bound
        assert listeners(bound.port) == (4 if sys.platform == "linux" else 1)
        stubs: list[Any] = [
            health_pb2_grpc.HealthStub(await instance.channel(instance.admin)) for _ in range(CHANNELS)
        ]
        # Each on a connection of its own: that one server gets none of them has odds of 1 to 250.
        for stub in stubs:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert listeners(bound.port) == 0
    listening_socket(bound, flag="--control-listen").close()


async def test_nobody_else_gets_a_share_of_the_port(tmp_path: Path) -> None:
    async with running_instance(tmp_path / "founder") as instance:
        other = _servers(instance)
        with pytest.raises(UnavailableError, match="--control-listen"):
            other.bind(instance.servers.control_bound, ANY_PORT)
        await other.stop(0)


def _servers(instance: Instance) -> RpcServers:
    return RpcServers(
        instance.certificate, Callers(instance.store, instance.authority.swarm), instance.denials
    )
