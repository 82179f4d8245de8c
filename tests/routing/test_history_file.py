"""What was measured survives a restart, aged; a damaged file is as none.

Kills: ages of another clock, no checksum, a file that grows without end, defaults written as measurements.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.core.cost import Ask
from sidecar.core.estimates import REVISIT_S
from sidecar.core.estimates_history import History
from sidecar.routing import history_file
from sidecar.routing.balancing import Balancer
from sidecar.routing.history_file import HistoryKeeper, load_history
from sidecar.routing.view import own_endpoints
from swarmplane.ids import EndpointId, ModelName, NodeId
from tests.fakes.clock import FakeClock
from tests.fakes.inventories import inventory

M, FAST, SLOW = ModelName("m"), EndpointId("a/b/m"), EndpointId("b/b/m")
UNIX_S = 1.7e9


def measured(now_s: float) -> History:
    history = History()
    for number in range(20):
        for _ in range(5):
            history.first_token(M, FAST, 0.1, prompt_tokens=100, now_s=now_s + number)
        history.first_token(M, SLOW, 2.0, prompt_tokens=100, now_s=now_s + number)
        history.finished(M, SLOW, 4.0, now_s=now_s + number)
    history.node(NodeId("a")).answered_after(0.5)
    history.decoded(M, FAST, 33.0)
    return history


async def saved(path: Path, history: History, now_s: float) -> None:
    clock = FakeClock(now_s)
    await HistoryKeeper(path, history, clock, lambda: UNIX_S).save()


async def test_a_restart_knows_who_is_fast_and_how_old_that_is(tmp_path: Path) -> None:
    path, before = tmp_path / "history" / "latency.jsonl", measured(5_000.0)
    await saved(path, before, 5_019.0)
    assert path.stat().st_mode & 0o777 == 0o600
    after = History()
    assert load_history(path, after, 10.0, UNIX_S + 30.0) == 3
    fast, slow = after.of(M).of(FAST), after.of(M).of(SLOW)
    assert fast.typical_s(100) == pytest.approx(before.of(M).of(FAST).typical_s(100))
    assert slow.service_s == pytest.approx(before.of(M).of(SLOW).service_s)
    assert slow.at_s == pytest.approx(10.0 - 30.0)
    assert slow.doubted(after.of(M).pool, 10.0) == slow.unit_s
    assert slow.doubted(after.of(M).pool, 10.0 + REVISIT_S) < slow.unit_s
    assert after.of_node(NodeId("a")).round_trip_s == before.of_node(NodeId("a")).round_trip_s
    assert after.rates == {FAST: 33.0}


async def test_what_is_too_old_is_left_out_and_a_clock_set_back_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "latency.jsonl"
    await saved(path, measured(0.0), 20.0)
    assert load_history(path, History(), 10.0, UNIX_S + history_file.MOST_AGE_S) == 0
    after = History()
    assert load_history(path, after, 10.0, UNIX_S - 5_000.0) == 3
    assert after.of(M).of(FAST).at_s <= 10.0


@pytest.mark.parametrize("harm", ["cut", "flip", "other", "empty", "folder"])
async def test_a_damaged_file_is_as_none_and_is_replaced(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "latency.jsonl"
    await saved(path, measured(0.0), 20.0)
    content = path.read_bytes()
    if harm == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {
                "cut": content[:-7],
                "flip": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
                "other": b"something else\n" + content,
                "empty": b"",
            }[harm]
        )
    after = History()
    assert load_history(path, after, 0.0, UNIX_S) == 0
    assert "history.unusable" in capsys.readouterr().out
    assert not after.measured()
    if harm != "folder":
        await saved(path, measured(0.0), 20.0)
        assert load_history(path, after, 0.0, UNIX_S) == 3


async def test_only_the_newest_are_kept_and_nothing_is_written_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "latency.jsonl"
    await saved(path, History(), 0.0)
    assert not path.exists()
    history = measured(0.0)
    history.first_token(M, FAST, 0.1, prompt_tokens=100, now_s=90.0)
    monkeypatch.setattr(history_file, "MOST_ENTRIES", 2)
    await saved(path, history, 100.0)
    after = History()
    assert load_history(path, after, 0.0, UNIX_S) == 2
    assert set(after.of(M).by_endpoint) == {FAST}


async def test_a_disk_that_takes_nothing_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "latency.jsonl"
    path.mkdir()
    (path / "x").write_text("")
    keeper = HistoryKeeper(path, measured(0.0), FakeClock(1.0), lambda: UNIX_S)
    await keeper.save()
    await keeper.save()
    assert capsys.readouterr().out.count("history.not_saved") == 1


async def test_a_balancer_with_history_chooses_well_at_its_first_request(tmp_path: Path) -> None:
    path = tmp_path / "latency.jsonl"
    own = own_endpoints(NodeId("n"), inventory("m", "x"))
    one, other = own
    history = History()
    for number in range(20):
        history.first_token(M, one, 2.0, prompt_tokens=100, now_s=number)
        history.first_token(M, other, 0.1, prompt_tokens=100, now_s=number)
    await saved(path, history, 20.0)
    balancer = Balancer()
    load_history(path, balancer.history, 0.0, UNIX_S)
    from sidecar.core.candidate import Candidate

    candidates = [Candidate(own[key].endpoint, local=True, load_known=True) for key in (one, other)]
    for draw in (0.0, 0.5, 0.99):
        ask = Ask("m", prompt_tokens=100)
        choice = balancer.choose(candidates, ask, strategy="least_cost", draw=draw, now_s=0.0)
        assert next(choice).endpoint.id == other
