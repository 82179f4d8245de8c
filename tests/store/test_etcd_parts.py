"""The parts of the etcd store that only compute.

Mutants of the etcd store that tests/store kills, each tried alone: a marker without its condition, or never
learnt anew; a doubt always taken for done, for not done, or asked again; events repeated, torn or kept over a
lost stream; a wiped or exchanged store not noticed, by reads or by watches; no rest in an outage; no new
login, or one for each caller; deletions lost to compaction on old servers; silent members never left; pages
that repeat keys or are of several revisions; grants, revocations and compactions not known to be done;
bookmarks never, early or late; readers without a bound.

Not killed, as nothing can tell: answers of two renewals of one lease exchanged; gRPC's retries allowed, which
are those that were never sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from controlplane.store.etcd.access import EtcdAccess, EtcdTls
from controlplane.store.etcd.batches import Batcher
from controlplane.store.etcd.failures import Refusal, RefusedError, Verdict, judge, refusal_of_watch
from controlplane.store.etcd.keyspace import Keyspace
from controlplane.store.etcd.markers import MAX_SLOTS, Markers, markable
from controlplane.store.etcd.standing import Standing
from controlplane.store.etcd.versions import Habits
from controlplane.store.etcd.wire import v3_pb2 as pb
from controlplane.store.port import (
    MAX_OPERATIONS,
    MAX_TRANSACTION_BYTES,
    Compare,
    Delete,
    DeletePrefix,
    FutureRevisionError,
    Operation,
    Put,
    Relation,
    StoreUnavailableError,
    absent,
    created,
    modified,
)
from swarmplane.errors import ForbiddenError, InvalidRequestError, UnauthenticatedError

Status = grpc.StatusCode


def rpc_error(status: grpc.StatusCode, text: str) -> AioRpcError:
    return AioRpcError(status, Metadata(), Metadata(), details=text)


@pytest.mark.parametrize(
    ("status", "text", "verdict"),
    [
        pytest.param(Status.UNAVAILABLE, "etcdserver: no leader", Verdict.ELSEWHERE, id="no-leader"),
        pytest.param(
            Status.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Verdict.ELSEWHERE, id="too-busy"
        ),
        pytest.param(Status.UNAVAILABLE, "etcdserver: request timed out", Verdict.DOUBT, id="timed-out"),
        pytest.param(Status.UNAVAILABLE, "etcdserver: leader changed", Verdict.DOUBT, id="leader-changed"),
        pytest.param(Status.UNAVAILABLE, "etcdserver: server stopped", Verdict.DOUBT, id="stopped"),
        pytest.param(Status.UNAVAILABLE, "Socket closed", Verdict.DOUBT, id="connection-lost"),
        # What a deadline of the server's side looks like when it wins the race.
        pytest.param(Status.CANCELLED, "RST_STREAM error code 8", Verdict.DOUBT, id="reset"),
        pytest.param(Status.DEADLINE_EXCEEDED, "Deadline Exceeded", Verdict.DOUBT, id="deadline"),
        pytest.param(Status.UNKNOWN, "raft proposal dropped", Verdict.DOUBT, id="unknown"),
        pytest.param(Status.INTERNAL, "", Verdict.DOUBT, id="internal"),
        pytest.param(Status.UNAUTHENTICATED, "etcdserver: invalid auth token", Verdict.LOGIN, id="token"),
        pytest.param(
            Status.INVALID_ARGUMENT,
            "etcdserver: revision of auth store is old",
            Verdict.LOGIN,
            id="old-token",
        ),
        pytest.param(Status.INVALID_ARGUMENT, "etcdserver: user name is empty", Verdict.LOGIN, id="no-token"),
        pytest.param(Status.PERMISSION_DENIED, "etcdserver: permission denied", Verdict.FINAL, id="denied"),
    ],
)
def test_what_is_not_known_to_be_harmless_is_in_doubt(
    status: grpc.StatusCode, text: str, verdict: Verdict
) -> None:
    assert judge(rpc_error(status, text)).verdict is verdict


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (
            Status.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
            FutureRevisionError,
        ),
        (Status.INVALID_ARGUMENT, "etcdserver: request is too large", InvalidRequestError),
        (Status.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID", UnauthenticatedError),
        (Status.PERMISSION_DENIED, "etcdserver: permission denied", ForbiddenError),
        (Status.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", StoreUnavailableError),
        (Status.DATA_LOSS, "etcdserver: corrupt cluster", StoreUnavailableError),
        (Status.UNIMPLEMENTED, "unknown service", StoreUnavailableError),
    ],
)
def test_refusals_that_nobody_will_take_back_are_errors_of_their_own(
    status: grpc.StatusCode, text: str, error: type[Exception]
) -> None:
    assert type(judge(rpc_error(status, text)).error) is error


@pytest.mark.parametrize(
    ("status", "text", "refusal"),
    [
        (Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Refusal.COMPACTED),
        (Status.NOT_FOUND, "etcdserver: requested lease not found", Refusal.NO_LEASE),
        (Status.FAILED_PRECONDITION, "etcdserver: lease already exists", Refusal.LEASE_EXISTS),
        (Status.FAILED_PRECONDITION, "etcdserver: authentication is not enabled", Refusal.NO_AUTHENTICATION),
        (Status.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 8)", Refusal.ANSWER_TOO_LARGE),
    ],
)
def test_refusals_that_the_caller_understands(status: grpc.StatusCode, text: str, refusal: Refusal) -> None:
    error = judge(rpc_error(status, text)).error
    assert isinstance(error, RefusedError)
    assert error.refusal is refusal


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("rpc error: code = PermissionDenied desc = etcdserver: permission denied", Verdict.FINAL),
        ("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token", Verdict.LOGIN),
        ("etcdserver: mvcc: something else", Verdict.ELSEWHERE),
        ("", Verdict.ELSEWHERE),
    ],
)
def test_why_a_watch_ended(reason: str, verdict: Verdict) -> None:
    assert refusal_of_watch(reason).verdict is verdict


@pytest.mark.parametrize(
    ("version", "ordered", "keeps"),
    [
        ("3.4.23", False, False),
        ("3.4.25", True, False),
        ("3.4.34", True, True),
        ("3.5.1", False, False),
        ("3.5.7", False, False),
        ("3.5.8", True, False),
        ("3.5.15", True, False),
        ("3.5.16", True, True),
        ("3.6.0-rc.1", True, True),
        ("4.0.0", True, True),
        ("3.3.27", False, False),
        ("unknown", False, False),
    ],
)
def test_what_each_version_gets_wrong(version: str, *, ordered: bool, keeps: bool) -> None:
    assert Habits.of(version) == Habits(ordered_progress=ordered, keeps_deletions=keeps)


def test_endpoints_are_read_with_and_without_schemes() -> None:
    access = EtcdAccess.of(["10.0.0.1", "http://10.0.0.2:4001/", "http://[::1]:2379"])
    assert [str(one) for one in access.endpoints] == ["10.0.0.1:2379", "10.0.0.2:4001", "[::1]:2379"]
    assert access.tls is None
    assert EtcdAccess.of(["https://a"]).tls == EtcdTls()
    assert EtcdAccess.of(["a"], tls=EtcdTls(b"pem")).tls == EtcdTls(b"pem")
    assert "secret" not in repr(EtcdAccess.of(["a"], tls=EtcdTls(key_pem=b"secret"), password="secret"))


@pytest.mark.parametrize(
    "endpoints", [[], ["http://a", "https://b"], ["a", "https://b"], ["ftp://a"], ["a:b"]]
)
def test_endpoints_that_make_no_sense_are_refused(endpoints: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        EtcdAccess.of(endpoints)


def test_tls_without_https_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="https"):
        EtcdAccess.of(["http://a"], tls=EtcdTls(b"pem"))


def test_another_cluster_or_an_earlier_revision_is_noticed_for_good() -> None:
    standing = Standing()
    standing.note(pb.ResponseHeader(cluster_id=1, revision=7))
    standing.note(pb.ResponseHeader(cluster_id=1, revision=5))
    assert standing.replaced is None
    standing.note(pb.ResponseHeader(cluster_id=1, revision=6), at_least=7)
    assert standing.replaced is not None
    standing.note(pb.ResponseHeader(cluster_id=1, revision=9), at_least=7)
    assert standing.replaced is not None
    other = Standing()
    other.note(pb.ResponseHeader(cluster_id=1, revision=7))
    other.note(pb.ResponseHeader(cluster_id=2, revision=8))
    assert other.replaced is not None
    assert "Another" in other.replaced.message


def test_no_key_of_ours_is_a_key_of_the_port() -> None:
    keyspace = Keyspace("/p/")
    first, end = keyspace.bounds("")
    for key in ("\0", "a", "\U0010ffff" * 4):
        assert first <= keyspace.key(key) < end
    assert keyspace.own(b"") >= end
    assert keyspace.own(b"\xff") < Keyspace("/p0").key("\0")


def test_a_prefix_ends_within_the_keyspace() -> None:
    assert Keyspace("p").bounds("a") == (b"pa", b"pb")
    assert Keyspace("").bounds("") == (b"\0", b"\xff")
    assert Keyspace("").bounds("", "k") == (b"k\0", b"\xff")
    assert Keyspace("").bounds("b/", "a") == (b"b/", b"b0")
    assert Keyspace("").bounds("b/", "b/1") == (b"b/1\0", b"b0")


@pytest.mark.parametrize(
    ("compares", "then", "marked"),
    [
        pytest.param((), [Put("a", b"")], True, id="a-put-always-writes"),
        pytest.param((), [Delete("a")], False, id="a-deletion-may-find-nothing"),
        pytest.param((), [DeletePrefix("a")], False, id="of-a-prefix-too"),
        pytest.param((), [], False, id="nothing-to-write"),
        pytest.param((modified("a", 3),), [Delete("a")], True, id="it-is-there-as-of-then"),
        pytest.param((created("a", 0, Relation.GREATER),), [Delete("a")], True, id="it-is-there"),
        pytest.param((absent("a"),), [Delete("a")], False, id="it-is-not-there"),
        pytest.param((modified("a", -1, Relation.GREATER),), [Delete("a")], False, id="it-may-not-be-there"),
        pytest.param((modified("a", 9, Relation.LESS),), [Delete("a")], False, id="less-may-be-absent"),
        pytest.param((modified("b", 3),), [Delete("a")], False, id="another-is-there"),
        pytest.param((), [Put(str(n), b"") for n in range(MAX_OPERATIONS)], False, id="no-room-for-one"),
        pytest.param((), [Put("a", bytes(MAX_TRANSACTION_BYTES - 300))], False, id="no-bytes-left"),
        pytest.param((absent("a"),) * MAX_OPERATIONS, [Put("a", b"")], False, id="no-compare-left"),
    ],
)
def test_only_what_surely_writes_is_marked(
    compares: tuple[Compare, ...], then: Sequence[Operation], *, marked: bool
) -> None:
    assert markable(compares, tuple(then), ()) is marked


def test_slots_are_reused_lowest_first_and_bounded() -> None:
    markers = Markers(Keyspace(""), "")
    slots = [markers.take() for _ in range(MAX_SLOTS)]
    assert markers.take() is None
    taken = [slot for slot in slots if slot is not None]
    assert len({slot.key for slot in taken}) == MAX_SLOTS
    for slot in (taken[5], taken[2]):
        markers.give(slot)
    assert markers.take() is taken[2]


def test_sweeping_takes_the_holder_s_other_markers_only() -> None:
    keyspace = Keyspace("")
    markers, others = (
        Markers(keyspace, "one"),
        [Markers(keyspace, name) for name in ("one", "on", "one/", "")],
    )
    swept = [operation.request_delete_range for operation in markers.sweeping()]

    def is_swept(of: Markers) -> bool:
        slot = of.take()
        assert slot is not None
        return any(one.key <= slot.key < one.range_end for one in swept)

    assert [is_swept(one) for one in [markers, *others]] == [False, True, False, False, False]


def event(revision: int, index: int) -> pb.Event:
    return pb.Event(kv=pb.KeyValue(key=b"%d" % index, mod_revision=revision))


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5), st.booleans()), max_size=8),
)
def test_every_revision_comes_once_and_whole_over_streams_that_break_anywhere(
    sizes: list[int], streams: list[tuple[int, int, bool]]
) -> None:
    events = [event(revision, index) for revision, size in enumerate(sizes, 1) for index in range(size)]
    batcher = Batcher(1)
    seen: list[tuple[int, int]] = []

    def stream(length: int, step: int, *, early: bool) -> None:
        batcher.begin()
        start = batcher.next - (1 if early else 0)
        rest = [one for one in events if one.kv.mod_revision >= start]
        sent = rest[: length * step]
        for at in range(0, len(sent), step):
            part = sent[at : at + step]
            # An answer ends with a revision; what is cut within one is a fragment.
            after = rest[at + step : at + step + 1]
            more = bool(after) and after[0].kv.mod_revision == part[-1].kv.mod_revision
            for revision, found in batcher.feed(part, more=more):
                seen.append((revision, len(found)))

    for length, step, early in streams:
        stream(length, step, early=early)
    stream(len(events), 3, early=True)
    assert seen == list(enumerate(sizes, 1))
