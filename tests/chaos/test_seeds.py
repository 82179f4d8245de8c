"""The list of seeds that failed."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.schedule import Kind, plan
from tests.chaos.seeds import FILE, Kept, keep, parse


def test_a_failure_is_kept_once_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "seeds.txt"
    first, second = Kept(7, 90.0, "kill,freeze"), Kept(8, 30.5, "kill")
    keep(first, "one controller:\nepoch 2 again", path)
    keep(first, "another reason", path)
    keep(second, "x", path)
    assert path.read_text().splitlines()[0] == "7 90 kill,freeze  # one controller: epoch 2 again"
    assert parse(path.read_text()) == [first, second]


def test_the_committed_list_can_be_run() -> None:
    for run in parse(FILE.read_text()):
        assert plan(run.seed, run.seconds, [Kind(kind) for kind in run.kinds.split(",")])
