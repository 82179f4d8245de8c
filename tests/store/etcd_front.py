"""A gRPC server in front of a real etcd, which passes everything on but what a test has changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from controlplane.store.etcd.wire import v3_pb2 as pb

_STATUS = "/etcdserverpb.Maintenance/Status"
_CALLS = 64


@dataclass
class Front:
    """Change it while it runs."""

    endpoint: str = ""
    late_s: float = 0.0
    """How long answers of what a member is like take longer."""
    told: dict[str, Any] = field(default_factory=dict)
    """Fields of :class:`pb.StatusResponse` that the member is said to tell."""

    def changed(self, method: str, answer: bytes) -> bytes:
        """``answer``, as it is passed on."""
        if method != _STATUS:
            return answer
        time.sleep(self.late_s)
        status = pb.StatusResponse.FromString(answer)
        status.MergeFrom(pb.StatusResponse(**self.told))
        return status.SerializeToString()


class _Passing(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.Channel, front: Front) -> None:
        self._channel = channel
        self._front = front

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        method = details.method

        def passed(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            told = (one for one in context.invocation_metadata() if not one[0].startswith(("grpc-", "user")))
            calls: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(method)
            call = calls(requests, metadata=tuple(told))

            def end() -> None:
                call.cancel()

            context.add_callback(end)
            try:
                for answer in call:
                    yield self._front.changed(method, answer)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")

        return grpc.stream_stream_rpc_method_handler(passed)


@contextlib.contextmanager
def fronted(target: str) -> Iterator[Front]:
    """A front of the etcd at ``target``, ``http://host:port``."""
    front = Front()
    with grpc.insecure_channel(target.removeprefix("http://")) as channel:
        pool = ThreadPoolExecutor(_CALLS)
        server = grpc.server(pool, handlers=[_Passing(channel, front)])
        front.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield front
        finally:
            server.stop(None).wait(10)
            pool.shutdown(cancel_futures=True)
