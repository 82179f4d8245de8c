"""How the members of the cluster are, for people: asked one by one, whether or not they have a leader."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import grpc

from controlplane.store.etcd.client import EtcdClient
from controlplane.store.etcd.endpoint import Endpoint
from controlplane.store.etcd.failures import NotConnectedError, judge
from swarmplane.errors import SwarmError
from swarmplane.etcd import advice, nearly_full

ASK_S: Final = 1.0
_ALARM: Final = re.compile(r"memberID:(\d+) alarm:(\w+)")
_CONNECTING: Final = "Failed to connect to remote host: "


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """One endpoint."""

    endpoint: str
    problem: str = ""
    """Why nothing is known of it; empty: it answers."""
    version: str = ""
    leads: bool = False
    has_leader: bool = False
    learner: bool = False
    latency_s: float = 0.0
    bytes: int = 0
    """Of its file."""
    bytes_in_use: int = 0
    bytes_quota: int = 0
    """0: it does not tell."""
    alarms: tuple[str, ...] = ()
    """``NOSPACE``, ``CORRUPT``."""


@dataclass(frozen=True, slots=True)
class ClusterHealth:
    """All endpoints."""

    members: tuple[MemberHealth, ...]

    @property
    def quorum(self) -> bool:
        """Whether some member knows a leader: only a majority has one."""
        return any(member.has_leader for member in self.members)

    def warnings(self) -> tuple[str, ...]:
        """What a person should do something about, a sentence each."""
        found = [f"{one.endpoint} does not answer: {one.problem}" for one in self.members if one.problem]
        if not self.quorum:
            found.insert(0, "etcd has no leader: a majority of its members must run and reach each other")
        for one in self.members:
            found += [f"{one.endpoint}: {alarm}" for alarm in one.alarms]
            if words := advice(one.version):
                found.append(f"{one.endpoint} runs etcd {one.version}: {words}")
            if quota := nearly_full(one.bytes, one.bytes_quota):
                found.append(
                    f"{one.endpoint} holds {one.bytes / 2**20:.0f} MiB ({one.bytes_in_use / 2**20:.0f} in "
                    f"use) of {quota}: compact and defragment it before that is used up"
                )
        return tuple(found)


async def cluster_health(client: EtcdClient) -> ClusterHealth:
    """Ask every endpoint at once; takes a second at most."""
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(_member(client, endpoint), name="etcd-health")
            for endpoint in client.endpoints.all
        ]
    answers = [task.result() for task in asked]
    members = alarmed(answers)
    if not any(one.has_leader for one in members) and any(one.secretive for one in answers):
        leads = await _decides(client)
        members = tuple(replace(one, has_leader=leads and not one.problem) for one in members)
    return ClusterHealth(members)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one member says, of itself and of the alarms of all."""

    member: MemberHealth
    id: int = 0
    errors: tuple[str, ...] = ()
    secretive: bool = False
    """It tells administrators alone how it is."""


def alarmed(answers: Sequence[Answer]) -> tuple[MemberHealth, ...]:
    """The members, each with its own alarms. Every one repeats those of all, and of members that are away."""
    found = dict.fromkeys(
        pair for answer in answers for text in answer.errors for pair in _ALARM.findall(text)
    )
    known = {str(answer.id) for answer in answers if answer.id}
    first = next((answer for answer in answers if answer.id), None)
    return tuple(
        replace(
            answer.member,
            alarms=tuple(
                alarm
                for member, alarm in found
                if member == str(answer.id) or (answer is first and member not in known)
            ),
        )
        for answer in answers
    )


async def _decides(client: EtcdClient) -> bool:
    """Whether a majority answers."""
    try:
        async with asyncio.timeout(ASK_S):
            await client.revision()
    except (SwarmError, TimeoutError):
        return False
    return True


async def _member(client: EtcdClient, endpoint: Endpoint) -> Answer:
    name, loop = str(endpoint.address), asyncio.get_running_loop()
    try:
        await endpoint.connected(ASK_S)
        asked_s = loop.time()
        status = await endpoint.status(ASK_S, client.token)
    except NotConnectedError as error:
        return Answer(MemberHealth(name, str(error).rpartition(_CONNECTING)[2]))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            # Newer servers tell administrators alone; that it says so is a sign of life.
            latency_s = loop.time() - asked_s
            return Answer(MemberHealth(name, latency_s=latency_s), secretive=True)
        return Answer(MemberHealth(name, judge(error).reason))
    member = MemberHealth(
        name,
        version=status.version,
        leads=bool(status.leader) and status.leader == status.header.member_id,
        has_leader=bool(status.leader),
        learner=status.isLearner,
        latency_s=loop.time() - asked_s,
        bytes=status.dbSize,
        bytes_in_use=status.dbSizeInUse,
        bytes_quota=status.dbSizeQuota,
    )
    return Answer(member, status.header.member_id, tuple(status.errors))
