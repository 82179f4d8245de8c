"""Which control plane to talk to, as whom, and the connection to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from cli.client.contexts import current_name, read_context
from cli.client.control import ControlClient
from cli.invocation import Invocation
from swarmplane.channels import control_channel, swarm_errors
from swarmplane.credentials import csr, keys
from swarmplane.credentials.files import Credential, load_credential, save_renewed
from swarmplane.credentials.names import Profile
from swarmplane.credentials.renewal import renewal_due_s
from swarmplane.datadir import DataDir
from swarmplane.errors import NotFoundError, SwarmError, UnauthenticatedError, UnavailableError
from swarmplane.identity import read_record
from swarmplane.runtime import read_runtime

CONNECT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """A control plane and a credential for it."""

    addresses: tuple[str, ...]
    directory: Path
    """Of the credential."""
    swarm: str
    swarm_name: str
    join_addresses: tuple[str, ...] = ()


def chosen_target(data_dir: DataDir, context: str = "") -> Target:
    """The context named, else the one in use, else this host's own certificate, which reads.

    Raises:
        NotFoundError: There is nothing to act with.
    """
    name = context or current_name(data_dir)
    if not name:
        return node_target(data_dir)
    found = read_context(data_dir, name)
    addresses = _own_addresses(data_dir, found.swarm, found.addresses)
    return Target(addresses, data_dir.context(name), found.swarm, found.swarm_name, found.join_addresses)


def node_target(data_dir: DataDir) -> Target:
    """This host's own certificate: it reads, and acts on this host.

    Raises:
        NotFoundError: This host is in no swarm.
    """
    record = read_record(data_dir)
    if record is None:
        raise NotFoundError(
            f"this host is in no swarm (data directory {data_dir.root}): "
            "found one with `swarmctl up`, join one with `swarmctl join`, or log in with `swarmctl login`"
        )
    addresses = _own_addresses(data_dir, record.swarm_id, record.control_addresses)
    return Target(addresses, data_dir.node, record.swarm_id, record.swarm_name, record.join_addresses)


def _own_addresses(data_dir: DataDir, swarm: str, addresses: Sequence[str]) -> tuple[str, ...]:
    # A host that runs knows best where its own instance listens: ports may have been free ones.
    runtime = read_runtime(data_dir)
    own = runtime.urls.get("control", "") if runtime is not None and runtime.swarm == swarm else ""
    return tuple(dict.fromkeys([own, *addresses] if own else addresses))


@asynccontextmanager
async def connected(called: Invocation) -> AsyncIterator[ControlClient]:
    """A connection to the control plane that ``called`` means.

    Raises:
        SwarmError: There is no credential, or no control plane answers.
    """
    async with connected_to(chosen_target(called.data_dir, called.context)) as client:
        yield client


@asynccontextmanager
async def connected_to(target: Target) -> AsyncIterator[ControlClient]:
    """A connection to the first address of ``target`` that answers."""
    credential = await asyncio.to_thread(load_credential, target.directory)
    facts = credential.facts()
    if facts.not_after_s < time.time():
        raise UnauthenticatedError(
            f"the certificate in {target.directory} has ended; "
            + ("log in again" if facts.subject.profile is Profile.USER else "`swarmctl up` renews it")
        )
    address, channel = await _first_that_answers(target.addresses, credential)
    try:
        client = ControlClient(channel, address)
        if facts.subject.profile is Profile.USER and time.time() > renewal_due_s(
            facts.not_after_s, Profile.USER
        ):
            await _renew(client, target.directory, credential)
        yield client
    finally:
        await channel.close()


async def _first_that_answers(
    addresses: Sequence[str], credential: Credential
) -> tuple[str, grpc.aio.Channel]:
    failure: SwarmError = NotFoundError("no address of a control plane is known")
    for address in addresses:
        try:
            channel = await control_channel(address, credential, timeout_s=CONNECT_S)
        except UnavailableError as error:
            failure = error
            continue
        if await _is_ready(channel):
            return address, channel
        failure = await _refusal(channel, address)
        await channel.close()
    raise failure


async def _is_ready(channel: grpc.aio.Channel) -> bool:
    state = channel.get_state(try_to_connect=True)
    try:
        async with asyncio.timeout(CONNECT_S):
            while state not in {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}:
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        return False
    return state is grpc.ChannelConnectivity.READY


async def _refusal(channel: grpc.aio.Channel, address: str) -> SwarmError:
    """Why the channel is not ready: a call says it."""
    try:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        with swarm_errors(address):
            await check(b"", timeout=1.0)
    except SwarmError as error:
        return error
    return UnavailableError(f"the control plane at {address} does not answer")


async def _renew(client: ControlClient, directory: Path, credential: Credential) -> None:
    """Renew a person's certificate on use; one that can't be renewed now is good for weeks to come."""
    key = keys.private_key_from_pem(credential.key_pem)
    try:
        renewed = credential.with_certificate(await client.renew(csr.make_csr(key)))
        renewed.check()
        await asyncio.to_thread(save_renewed, directory, renewed.certificate_pem)
    except (SwarmError, OSError):
        return
