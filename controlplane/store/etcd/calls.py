"""The calls of etcd's API that are used: path, request, answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from controlplane.store.etcd.wire import v3_pb2 as pb


class Message(Protocol):
    """What every generated message can."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Its bytes on the wire."""
        ...


class Answer(Protocol):
    """What every answer has."""

    @property
    def header(self) -> pb.ResponseHeader:
        """Who answered."""
        ...


Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Answer)


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, R]):
    """One call: ``Q`` is sent, ``R`` comes back."""

    path: str
    request: type[Q]
    parse: Callable[[bytes], R]


RANGE: Final = Call("/etcdserverpb.KV/Range", pb.RangeRequest, pb.RangeResponse.FromString)
TXN: Final = Call("/etcdserverpb.KV/Txn", pb.TxnRequest, pb.TxnResponse.FromString)
COMPACT: Final = Call("/etcdserverpb.KV/Compact", pb.CompactionRequest, pb.CompactionResponse.FromString)
GRANT: Final = Call("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantRequest, pb.LeaseGrantResponse.FromString)
REVOKE: Final = Call(
    "/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeRequest, pb.LeaseRevokeResponse.FromString
)
TIME_TO_LIVE: Final = Call(
    "/etcdserverpb.Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse.FromString
)
KEEP_ALIVE: Final = Call(
    "/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse.FromString
)
WATCH: Final = Call("/etcdserverpb.Watch/Watch", pb.WatchRequest, pb.WatchResponse.FromString)
AUTHENTICATE: Final = Call(
    "/etcdserverpb.Auth/Authenticate", pb.AuthenticateRequest, pb.AuthenticateResponse.FromString
)
STATUS: Final = Call("/etcdserverpb.Maintenance/Status", pb.StatusRequest, pb.StatusResponse.FromString)
