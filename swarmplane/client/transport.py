"""Connections of the asynchronous client: one at a time, to any of several control planes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

import grpc

from swarmplane.channels import STALE_KEY, control_channel, swarm_errors
from swarmplane.client.calls import Call, Listing
from swarmplane.client.retrying import Retry, stale_s
from swarmplane.client.targets import full_addresses
from swarmplane.clock import Clock, SystemClock
from swarmplane.credentials.files import Credential
from swarmplane.errors import SwarmError, UnavailableError

T = TypeVar("T")
CONNECT_S: Final = 3.0
HEALTH: Final = "/grpc.health.v1.Health/Check"


class Transport:
    """Sends calls to the first control plane that takes them, and goes on with it while it answers.

    Channels are kept until :meth:`close`: ending one would cancel other calls on it.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        credential: Credential,
        retry: Retry,
        *,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._addresses = full_addresses(addresses)
        self._credential = credential
        self.retry = retry
        self._clock = clock or SystemClock()
        self._draw = draw
        self._at = 0
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._connecting = asyncio.Lock()
        self.stale_s = 0.0
        """Age of the oldest answer so far: above 0 while the control plane's store is out of reach."""

    @property
    def address(self) -> str:
        """The control plane that is asked next."""
        return self._addresses[self._at]

    async def call(self, call: Call[T], timeout_s: float | None = None) -> T:
        """What ``call`` is answered.

        Raises:
            SwarmError: What the control plane refuses it with; or the last failure, when nobody takes it.
        """
        ends_s = self._clock.now_s() + (self.retry.timeout_s if timeout_s is None else timeout_s)
        tries, refusal = 0, None
        while True:
            address = self.address
            left_s = max(ends_s - self._clock.now_s(), 0.001)
            try:
                return await self._try(call, address, left_s)
            except SwarmError as error:
                tries += 1
                self._leave(address)
                left_s = ends_s - self._clock.now_s()
                delay_s = self.retry.delay_s(error, tries, len(self._addresses), left_s, self._draw())
                if delay_s is None:
                    # That the time was over says less than what was said before.
                    raise (error if refusal is None or left_s > 0 else refusal) from None
                refusal = error
                await self._clock.sleep(delay_s)

    async def items(self, listing: Listing[T]) -> AsyncIterator[T]:
        """All items of a list, page by page as they are wanted."""
        page_token = ""
        while True:
            page = await self.call(listing(page_token))
            for item in page.items:
                yield item
            page_token = page.next_page_token
            if not page_token:
                return

    async def stream(self, call: Call[T]) -> AsyncGenerator[T, None]:
        """Messages of one stream from the present control plane, until it ends.

        Raises:
            SwarmError: How it ended; the next stream goes elsewhere.
        """
        address = self.address
        try:
            channel = await self._channel(address, CONNECT_S)
            method: Any = channel.unary_stream(
                call.path,
                request_serializer=type(call.request).SerializeToString,
                response_deserializer=call.answer.FromString,
            )
            answers = method(call.request)
            try:
                with swarm_errors(address):
                    async for message in answers:
                        yield call.decode(message)
            finally:
                answers.cancel()
        except SwarmError:
            self._leave(address)
            raise

    async def pause(self, failures: int) -> None:
        """Wait before a watch asks again, after ``failures`` in a row."""
        await self._clock.sleep(self.retry.pause_s(failures, self._draw()))

    async def connect(self) -> None:
        """Find a control plane that answers, in one round.

        Raises:
            SwarmError: Of the last one; none does.
        """
        for tries in range(1, len(self._addresses) + 1):
            address = self.address
            try:
                await self._channel(address, CONNECT_S)
            except UnavailableError:
                self._leave(address)
                if tries == len(self._addresses):
                    raise
            else:
                return

    async def close(self) -> None:
        """End all connections, and calls on them."""
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()

    async def _try(self, call: Call[T], address: str, left_s: float) -> T:
        ends_s = self._clock.now_s() + left_s
        channel = await self._channel(address, min(CONNECT_S, left_s))
        method: Any = channel.unary_unary(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        with swarm_errors(address):
            asked = method(call.request, timeout=max(ends_s - self._clock.now_s(), 0.001))
            answer = await asked
            self.stale_s = max(self.stale_s, stale_s(await asked.trailing_metadata(), STALE_KEY))
            return call.decode(answer)

    def _leave(self, address: str) -> None:
        # Another call may have gone on already.
        if self.address == address:
            self._at = (self._at + 1) % len(self._addresses)

    async def _channel(self, address: str, limit_s: float) -> grpc.aio.Channel:
        async with self._connecting:
            channel = self._channels.get(address)
            if channel is None:
                channel = await control_channel(address, self._credential, timeout_s=limit_s)
                self._channels[address] = channel
            if await _is_ready(channel, limit_s):
                return channel
            # Made anew next time: its name may mean another address by then.
            del self._channels[address]
            failure = await _refusal(channel, address)
            await channel.close()
            raise failure


async def _is_ready(channel: grpc.aio.Channel, limit_s: float) -> bool:
    state = channel.get_state(try_to_connect=True)
    try:
        async with asyncio.timeout(limit_s):
            while state not in {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}:
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        return False
    return state is grpc.ChannelConnectivity.READY


async def _refusal(channel: grpc.aio.Channel, address: str) -> SwarmError:
    """Why the channel is not ready: a call says it."""
    try:
        check: Any = channel.unary_unary(HEALTH)
        with swarm_errors(address):
            await check(b"", timeout=1.0)
    except SwarmError as error:
        return error
    return UnavailableError(f"the control plane at {address} does not answer")
