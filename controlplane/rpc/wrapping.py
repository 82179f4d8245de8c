"""Doing something around every call, whatever its kind."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import grpc

Around = Callable[[grpc.aio.ServicerContext[Any, Any]], AbstractAsyncContextManager[None]]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # no generic at run time


def wrapped(handler: Handler, around: Around) -> Handler:
    """``handler`` within ``around``, the whole call: generators become coroutines that write.

    A generator is suspended while its message is sent; a cancellation would meet gRPC there, and not us.
    """
    inner: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

    async def answer(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
        async with around(context):
            result = inner(request, context)
            return await result if inspect.isawaitable(result) else result

    async def stream(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        async with around(context):
            result = inner(request, context)
            if isinstance(result, AsyncIterable):
                async for message in result:
                    await context.write(message)
            else:
                await result

    make: Any
    if handler.request_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    elif handler.response_streaming:
        make = grpc.unary_stream_rpc_method_handler
    else:
        make = grpc.unary_unary_rpc_method_handler
    function = stream if handler.response_streaming else answer
    made: Handler = make(function, handler.request_deserializer, handler.response_serializer)
    return made
