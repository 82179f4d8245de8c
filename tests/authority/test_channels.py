"""Channels as clients open them: by name, past proxies, and with errors that say what is wrong."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from swarmplane import enrollment
from swarmplane.channels import control_channel, swarm_errors
from swarmplane.credentials.files import Credential
from swarmplane.errors import UnavailableError
from swarmplane.v1 import token_pb2, token_pb2_grpc
from tests.fakes.authority import CALL_S, Instance, running_instance


async def listed(address: str, credential: Credential) -> Any:
    async with await control_channel(address, credential) as channel:
        stub: Any = token_pb2_grpc.TokenServiceStub(channel)
        with swarm_errors(address):
            return await stub.List(token_pb2.ListTokensRequest(), timeout=CALL_S)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_name_works_wherever_one_of_its_addresses_answers(instance: Instance) -> None:
    port = instance.servers.control_bound.port
    assert (await listed(f"localhost:{port}", instance.admin)).revision > 0


async def test_proxies_are_ignored(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert (await listed(instance.control_address, instance.admin)).revision > 0


async def test_nobody_answers(instance: Instance) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError, match="connection refused") as caught:
        await listed(address, instance.admin)
    assert address in caught.value.message
    assert caught.value.code.retryable
    with pytest.raises(UnavailableError, match=f"nobody answers at {address}"):
        await enrollment.find_own(address, instance.authority.ca_pem)


async def test_a_name_without_an_address(instance: Instance) -> None:
    with pytest.raises(UnavailableError, match=r"nobody answers at nowhere\.invalid:1"):
        await listed("nowhere.invalid:1", instance.admin)


async def test_another_swarms_control_plane_is_told_apart(instance: Instance, tmp_path: Any) -> None:
    async with running_instance(tmp_path / "other") as other:
        with pytest.raises(UnavailableError, match="another swarm"):
            await listed(other.control_address, instance.admin)


async def test_something_else_listens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrollment, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=r"does not answer within 0\.2 s"):
            await enrollment.find_own(address, b"")
