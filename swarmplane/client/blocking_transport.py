"""Connections of the blocking client: as :mod:`swarmplane.client.transport`, for threads.

It uses gRPC's own blocking interface: ``grpc.aio`` does not share a process between event loops, and the
program that uses this may have one.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import grpc

from swarmplane.channels import STALE_KEY, blocking_control_channel, swarm_errors
from swarmplane.client.calls import Call, Listing
from swarmplane.client.retrying import Retry, stale_s
from swarmplane.client.targets import full_addresses
from swarmplane.client.transport import CONNECT_S, HEALTH
from swarmplane.credentials.files import Credential
from swarmplane.errors import SwarmError, UnavailableError

T = TypeVar("T")


class BlockingTransport:
    """See :class:`swarmplane.client.transport.Transport`. Threads may share one."""

    def __init__(
        self,
        addresses: Sequence[str],
        credential: Credential,
        retry: Retry,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._addresses = full_addresses(addresses)
        self._credential = credential
        self.retry = retry
        self._draw = draw
        self._at = 0
        self._channels: dict[str, grpc.Channel] = {}
        self._connecting = threading.Lock()
        self.stale_s = 0.0
        """Age of the oldest answer so far: above 0 while the control plane's store is out of reach."""
        self._closed = threading.Event()

    @property
    def address(self) -> str:
        """The control plane that is asked next."""
        return self._addresses[self._at]

    def call(self, call: Call[T], timeout_s: float | None = None) -> T:
        """What ``call`` is answered.

        Raises:
            SwarmError: What the control plane refuses it with; or the last failure, when nobody takes it.
        """
        ends_s = time.monotonic() + (self.retry.timeout_s if timeout_s is None else timeout_s)
        tries, refusal = 0, None
        while True:
            address = self.address
            left_s = max(ends_s - time.monotonic(), 0.001)
            try:
                return self._try(call, address, left_s)
            except SwarmError as error:
                tries += 1
                self._leave(address)
                left_s = ends_s - time.monotonic()
                delay_s = self.retry.delay_s(error, tries, len(self._addresses), left_s, self._draw())
                if delay_s is None or self._closed.wait(delay_s):
                    # That the time was over says less than what was said before.
                    raise (error if refusal is None or left_s > 0 else refusal) from None
                refusal = error

    def items(self, listing: Listing[T]) -> Iterator[T]:
        """All items of a list, page by page as they are wanted."""
        page_token = ""
        while True:
            page = self.call(listing(page_token))
            yield from page.items
            page_token = page.next_page_token
            if not page_token:
                return

    def stream(self, call: Call[T]) -> Generator[T, None, None]:
        """Messages of one stream from the present control plane, until it ends.

        Raises:
            SwarmError: How it ended; the next stream goes elsewhere.
        """
        address = self.address
        try:
            method: Any = self._channel(address, CONNECT_S).unary_stream(
                call.path,
                request_serializer=type(call.request).SerializeToString,
                response_deserializer=call.answer.FromString,
            )
            answers = method(call.request)
            try:
                with swarm_errors(address):
                    for message in answers:
                        yield call.decode(message)
            finally:
                answers.cancel()
        except SwarmError:
            self._leave(address)
            raise

    def pause(self, failures: int) -> None:
        """Wait before a watch asks again, after ``failures`` in a row."""
        self._closed.wait(self.retry.pause_s(failures, self._draw()))

    def wait(self, seconds: float) -> None:
        """Wait, at most until :meth:`close`."""
        self._closed.wait(seconds)

    def close(self) -> None:
        """End all connections, and calls on them."""
        self._closed.set()
        with self._connecting:
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def _try(self, call: Call[T], address: str, left_s: float) -> T:
        ends_s = time.monotonic() + left_s
        method: Any = self._channel(address, min(CONNECT_S, left_s)).unary_unary(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.answer.FromString,
        )
        with swarm_errors(address):
            left_s = max(ends_s - time.monotonic(), 0.001)
            answer, asked = method.with_call(call.request, timeout=left_s)
            self.stale_s = max(self.stale_s, stale_s(asked.trailing_metadata(), STALE_KEY))
            return call.decode(answer)

    def _leave(self, address: str) -> None:
        with self._connecting:
            # Another thread may have gone on already.
            if self.address == address:
                self._at = (self._at + 1) % len(self._addresses)

    def _channel(self, address: str, limit_s: float) -> grpc.Channel:
        with self._connecting:
            if self._closed.is_set():
                raise UnavailableError("this client was closed")
            known = self._channels.get(address)
            if known is not None:
                # It connects again by itself, and calls on it fail while it does not.
                return known
            channel = blocking_control_channel(address, self._credential, timeout_s=limit_s)
            if _is_ready(channel, limit_s):
                self._channels[address] = channel
                return channel
        failure = _refusal(channel, address)
        channel.close()
        raise failure


def _is_ready(channel: grpc.Channel, limit_s: float) -> bool:
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(states.put, try_to_connect=True)
    ends_s = time.monotonic() + limit_s
    try:
        while True:
            state = states.get(timeout=max(ends_s - time.monotonic(), 0.001))
            if state is grpc.ChannelConnectivity.READY:
                return True
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                return False
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(states.put)


def _refusal(channel: grpc.Channel, address: str) -> SwarmError:
    """Why the channel is not ready: a call says it."""
    try:
        check: Any = channel.unary_unary(HEALTH)
        with swarm_errors(address):
            check(b"", timeout=1.0)
    except SwarmError as error:
        return error
    return UnavailableError(f"the control plane at {address} does not answer")
