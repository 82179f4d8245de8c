"""What a person is told of etcd's members."""

from __future__ import annotations

import pytest

from controlplane.store.etcd.health import Answer, ClusterHealth, MemberHealth, alarmed

WELL = MemberHealth("a:2379", version="3.5.30", leads=True, has_leader=True, bytes=1)


def test_a_cluster_that_is_well_needs_no_words() -> None:
    health = ClusterHealth((WELL, MemberHealth("b:2379", version="3.6.1", has_leader=True)))
    assert health.quorum
    assert health.warnings() == ()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        pytest.param(MemberHealth("b:1", problem="refused"), "b:1 does not answer: refused", id="dead"),
        pytest.param(
            MemberHealth("b:1", version="3.4.22", has_leader=True), "3.4.23 is the oldest", id="too-old"
        ),
        pytest.param(
            MemberHealth("b:1", version="3.4.23", has_leader=True), "use 3.5.16 or newer", id="usable"
        ),
        pytest.param(MemberHealth("b:1", alarms=("NOSPACE",), has_leader=True), "b:1: NOSPACE", id="alarm"),
        pytest.param(
            MemberHealth("b:1", bytes=1_800_000_000, has_leader=True), "defragment", id="nearly-full"
        ),
    ],
)
def test_what_to_do_is_said_for_each_member(member: MemberHealth, words: str) -> None:
    health = ClusterHealth((WELL, member))
    assert health.quorum
    (warning,) = health.warnings()
    assert words in warning


def test_without_a_leader_there_is_no_quorum() -> None:
    health = ClusterHealth((MemberHealth("a:1", version="3.5.30"), MemberHealth("b:1", problem="refused")))
    assert not health.quorum
    assert "a majority of its members" in health.warnings()[0]


def test_an_alarm_is_told_of_the_member_that_has_it() -> None:
    """Kills: told of each member; one of a member that is away lost; what is no alarm taken for one."""
    errors = ("memberID:2 alarm:NOSPACE ", "memberID:9 alarm:CORRUPT ", "etcdserver: no leader")
    answers = [
        Answer(MemberHealth("a:1", "refused")),
        Answer(MemberHealth("b:1"), 1, errors),
        Answer(MemberHealth("c:1"), 2, errors),
    ]
    assert [one.alarms for one in alarmed(answers)] == [(), ("CORRUPT",), ("NOSPACE",)]
