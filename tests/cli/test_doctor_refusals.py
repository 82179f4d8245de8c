"""A refusal is shown until what was refused is on disk, whatever was taken into use meanwhile."""

from __future__ import annotations

import pytest

from cli.doctor.checks.control import judge_refusal

WORDS = "in force, but not on disk: no space left on device"
OWED = {"last_nack": {"version": "1.4", "reason": WORDS}, "not_on_disk": "no space left on device"}


@pytest.mark.parametrize(
    ("told", "ok", "words"),
    [
        pytest.param({**OWED, "acked": "1.3"}, False, "refused version 1.4", id="refused"),
        pytest.param({**OWED, "acked": "1.5"}, False, "(no space left on device)", id="a-later-table"),
        pytest.param({**OWED, "acked": "1.5", "last_nack": None}, False, "but not on disk", id="a-table"),
        pytest.param({**OWED, "acked": "1.3", "not_on_disk": ""}, True, "by now", id="on-disk"),
        pytest.param({**OWED, "acked": "1.5", "not_on_disk": ""}, True, "a later one", id="both"),
        pytest.param(
            {"last_nack": OWED["last_nack"], "acked": "1.3"}, False, "refused version 1.4", id="older-sidecar"
        ),
        pytest.param(
            {"last_nack": {"version": "1.4", "reason": "unknown field"}, "acked": "1.3", "not_on_disk": ""},
            False, "unknown field", id="not-of-the-disk",
        ),
    ],
)  # fmt: skip
def test_a_refusal_stands_until_it_is_on_disk(told: dict[str, object], ok: bool, words: str) -> None:
    verdict = judge_refusal({"joined": True, **told})
    assert (verdict.ok, words in verdict.detail) == (ok, True), verdict.detail
    if not ok:
        assert verdict.severity == "error"
        assert ("its data directory" in verdict.fix) == ("unknown" not in words)
