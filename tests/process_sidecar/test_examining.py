"""The doctor in a process of its own: asked seldom, bounded, and never a half answer."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from sidecar.process import examining
from sidecar.process.examining import Examination
from swarmplane.errors import UnavailableError
from tests.fakes.clock import FakeClock

COUNTS = (
    "import json, pathlib, sys; place = pathlib.Path(sys.argv[2]) / 'asked'; "
    "place.open('a').write('x'); print(json.dumps({'items': [], 'argv': sys.argv[1:]}))"
)


async def test_it_is_run_once_for_all_who_ask_within_ten_seconds(tmp_path: Path) -> None:
    clock = FakeClock()
    examine = Examination(tmp_path, clock, (sys.executable, "-c", COUNTS))
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(examine()) for _ in range(2)]
    first, second = (one.result() for one in asking)
    assert first is second
    assert first["argv"] == ["--data-dir", str(tmp_path)]
    await clock.advance(examining.KEPT_S + 1)
    await examine()
    assert (tmp_path / "asked").read_text() == "xx"


@pytest.mark.parametrize("script", ["print('half')", "print('[]')", "raise SystemExit(1)", "print('{}')"])
async def test_what_is_no_answer_is_an_error(tmp_path: Path, script: str) -> None:
    with pytest.raises(UnavailableError, match="try swarmctl doctor"):
        await Examination(tmp_path, FakeClock(), (sys.executable, "-c", script))()


async def test_what_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "LIMIT_S", 0.2)
    with pytest.raises(UnavailableError, match=r"did not end within 0\.2 s"):
        await Examination(tmp_path, FakeClock(), (sys.executable, "-c", "import time; time.sleep(50)"))()
