"""Multicast DNS: telling the local network of this host, and hearing of others; around ``zeroconf``."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zeroconf import (
    DNSQuestionType,
    Error,
    IPVersion,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from swarmplane.discovery.announcement import (
    SERVICE_TYPE,
    Announcement,
    properties_of,
    read_properties,
)
from swarmplane.errors import UnavailableError, reason_of

_RESOLVE_MS: Final = 1_500
_CLOSE_S: Final = 3.0
_REGISTER_S: Final = 5.0
_MOST: Final = 1_000
"""Hosts kept of one look; a network that tells of more is not one we can help."""
_ASK_AGAIN_MS: Final = 1_000
DISCARD: Final = 9
"""Port told by a host that takes nothing from others; the format wants one."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An announcement, and where it came from."""

    announcement: Announcement
    addresses: tuple[str, ...]
    """IP addresses of the host, as it says."""


def _never(_seen: Sequence[Sighting]) -> bool:
    return False


class Multicast:
    """What can be told and heard on some interfaces. From :func:`multicast`."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self._zeroconf = zeroconf
        self._told: AsyncServiceInfo | None = None

    async def announce(self, announcement: Announcement, addresses: Sequence[str]) -> None:
        """Tell of this host, or tell anew what changed. About a second: the name is probed first.

        Raises:
            UnavailableError: The network takes no multicast, or another host keeps the name.
        """
        info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"{announcement.label}.{SERVICE_TYPE}",
            addresses=[ipaddress.ip_address(one).packed for one in addresses],
            port=announcement.client_port or DISCARD,
            properties=properties_of(announcement),
            server=f"{announcement.node}.swarmplane.local.",
        )
        try:
            async with asyncio.timeout(_REGISTER_S):
                if self._told is not None and self._told.name == info.name:
                    sent = await self._zeroconf.async_update_service(info)
                else:
                    await self.withdraw()
                    # After a crash or on a cloned host the name may still be known: take another beside it.
                    sent = await self._zeroconf.async_register_service(info, allow_name_change=True)
                await sent
        except (Error, OSError, TimeoutError) as error:
            raise UnavailableError(f"this host can't be announced by mDNS: {_reason(error)}") from None
        self._told = info

    async def withdraw(self) -> None:
        """Say goodbye, if something was told."""
        told, self._told = self._told, None
        if told is not None:
            with contextlib.suppress(Error, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await (await self._zeroconf.async_unregister_service(told))

    async def look(
        self, within_s: float, enough: Callable[[Sequence[Sighting]], bool] = _never
    ) -> tuple[Sighting, ...]:
        """Who tells of itself within ``within_s`` seconds, or until ``enough``; one for each node."""
        seen: dict[str, Sighting] = {}
        fresh: asyncio.Queue[str] = asyncio.Queue(_MOST)

        def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:  # noqa: ARG001
            if state_change is not ServiceStateChange.Removed:
                with contextlib.suppress(asyncio.QueueFull):
                    fresh.put_nowait(name)

        async def resolve(name: str) -> None:
            sighting = await self._resolved(name)
            if sighting is not None and len(seen) < _MOST:
                seen[sighting.announcement.node] = sighting

        browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf,
            SERVICE_TYPE,
            handlers=[heard],
            delay=_ASK_AGAIN_MS,
            question_type=DNSQuestionType.QM,
        )
        try:
            async with asyncio.timeout(within_s):
                while not enough(tuple(seen.values())):
                    names = {await fresh.get()}
                    while not fresh.empty():
                        names.add(fresh.get_nowait())
                    async with asyncio.TaskGroup() as group:
                        for name in names:
                            group.create_task(resolve(name))
        except TimeoutError:
            pass
        finally:
            await browser.async_cancel()
        return tuple(seen.values())

    async def _resolved(self, name: str) -> Sighting | None:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if not await info.async_request(self._zeroconf.zeroconf, _RESOLVE_MS):
            return None
        found = read_properties(_raw(info))
        if found is None:
            return None
        addresses = tuple(str(one) for one in info.ip_addresses_by_version(IPVersion.All))
        return Sighting(found, addresses)


@contextlib.asynccontextmanager
async def multicast(interfaces: Sequence[str]) -> AsyncIterator[Multicast]:
    """Multicast on the interfaces that have these IPv4 addresses.

    Raises:
        UnavailableError: There is none, or the system refuses (a container without multicast, say).
    """
    if not interfaces:
        raise UnavailableError("this machine is on no network on which others could be looked for")
    try:
        zeroconf = AsyncZeroconf(interfaces=list(interfaces), ip_version=IPVersion.V4Only)
    except OSError as error:
        raise UnavailableError(f"multicast DNS can't be used here: {reason_of(error)}") from None
    one = Multicast(zeroconf)
    try:
        yield one
    finally:
        await one.withdraw()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await zeroconf.async_close()


def _raw(info: AsyncServiceInfo) -> dict[bytes, bytes | None]:
    properties: dict[Any, Any] = info.properties
    return {key: value for key, value in properties.items() if isinstance(key, bytes)}


def _reason(error: Exception) -> str:
    return reason_of(error) if isinstance(error, OSError) else type(error).__name__
