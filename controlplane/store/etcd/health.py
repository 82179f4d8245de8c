"""How the members of the cluster are, for people: asked one by one, whether or not they have a leader."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import grpc

from controlplane.store.etcd.client import EtcdClient
from controlplane.store.etcd.endpoint import Endpoint
from controlplane.store.etcd.failures import NotConnectedError, judge

ASK_S: Final = 1.0
LEAST: Final = (3, 4, 23)
"""Older servers lack what the client relies on."""
RECOMMENDED: Final = (3, 5, 16)
"""Older ones can lose deletions on a compaction, and some of 3.5 lose data when they are killed."""
_LARGE_BYTES: Final = int(2 * 1024**3 * 0.8)
"""Four fifths of the quota that etcd has unless it is told another."""


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
    alarms: tuple[str, ...] = ()


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
            found += _of_version(one)
            if one.bytes > _LARGE_BYTES:
                found.append(
                    f"{one.endpoint} holds {one.bytes / 2**20:.0f} MiB ({one.bytes_in_use / 2**20:.0f} in "
                    "use): compact and defragment it before its quota is used up"
                )
        return tuple(found)


async def cluster_health(client: EtcdClient) -> ClusterHealth:
    """Ask every endpoint at once; takes a second at most."""
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(_member(client, endpoint), name="etcd-health")
            for endpoint in client.endpoints.all
        ]
    return ClusterHealth(tuple(task.result() for task in asked))


async def _member(client: EtcdClient, endpoint: Endpoint) -> MemberHealth:
    name, loop = str(endpoint.address), asyncio.get_running_loop()
    try:
        await endpoint.connected(ASK_S)
        asked_s = loop.time()
        status = await endpoint.status(ASK_S, client.token)
    except NotConnectedError as error:
        return MemberHealth(name, str(error))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            # Newer servers tell administrators alone; that it says so is a sign of life.
            return MemberHealth(name, has_leader=True)
        return MemberHealth(name, judge(error).reason)
    return MemberHealth(
        name,
        version=status.version,
        leads=bool(status.leader) and status.leader == status.header.member_id,
        has_leader=bool(status.leader),
        learner=status.isLearner,
        latency_s=loop.time() - asked_s,
        bytes=status.dbSize,
        bytes_in_use=status.dbSizeInUse,
        alarms=tuple(status.errors),
    )


def _of_version(member: MemberHealth) -> list[str]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", member.version)
    if found is None:
        return []
    version = tuple(map(int, found.groups()))
    if version < LEAST:
        return [f"{member.endpoint} runs etcd {member.version}: 3.4.23 is the oldest that works"]
    if version < RECOMMENDED:
        return [f"{member.endpoint} runs etcd {member.version}: use 3.5.16 or newer"]
    return []
