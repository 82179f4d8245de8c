"""Reading a stream whose end is an expected outcome."""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

import grpc

from controlplane.store.etcd.calls import Answer, Message
from controlplane.store.etcd.failures import Failure, Verdict, judge

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Answer)


async def received(stream: grpc.aio.StreamStreamCall[Q, R]) -> R | Failure:
    """The next message, or why there is none.

    Cancelling the wait cancels the stream. A stream that somebody else cancelled has ended like any other:
    gRPC shows it as a cancelled task.
    """
    try:
        message = await stream.read()
    except grpc.aio.AioRpcError as error:
        return judge(error)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return Failure(Verdict.ELSEWHERE, "given up")
    except asyncio.InvalidStateError as error:
        return Failure(Verdict.ELSEWHERE, str(error))
    if message is grpc.aio.EOF:
        return Failure(Verdict.ELSEWHERE, "ended by the member")
    return cast("R", message)


async def sent(stream: grpc.aio.StreamStreamCall[Q, R], message: Q) -> bool:
    """Send ``message``; whether the stream took it. Why not is for the reader to find out."""
    try:
        await stream.write(message)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return False
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return False
    return True
