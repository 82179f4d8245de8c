"""How full an etcd is goes by the quota that it tells, and by the default where it tells none."""

from __future__ import annotations

import pytest

from cli.doctor.checks.store import judge_space
from swarmplane.etcd import nearly_full

GIB = 1 << 30


@pytest.mark.parametrize(
    ("holds", "quota", "words"),
    [
        pytest.param(GIB, {}, "", id="an-older-instance"),
        pytest.param(GIB, {"bytes_quota": 0}, "", id="it-does-not-tell"),
        pytest.param(GIB, {"bytes_quota": GIB + 9}, "of its quota of 1024 MiB", id="a-smaller-quota"),
        pytest.param(2 * GIB, {"bytes_quota": 8 * GIB}, "", id="a-larger-quota"),
        pytest.param(2 * GIB, {"bytes_quota": 0}, "of the default quota of 2048 MiB", id="default"),
    ],
)
def test_how_full_a_member_is(holds: int, quota: dict[str, int], words: str) -> None:
    one = {"endpoint": "e:1", "answers": True, "bytes": holds, "bytes_in_use": GIB // 2, **quota}
    verdict = judge_space({"kind": "etcd", "quorum": True, "members": [one]})
    assert (verdict.ok, words in verdict.detail) == (not words, True), verdict.detail


def test_four_fifths_are_not_yet_too_much() -> None:
    assert nearly_full(800, 1000) == ""
    assert nearly_full(1 << 50, -1) == "", "it has none"
    assert nearly_full(801, 1000)
