"""A control plane per test, on its own clock or the machine's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.control import Plane, running_plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running_plane(tmp_path / "founder") as one:
        yield one


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_000.0)


@pytest.fixture
async def still_plane(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Plane]:
    """Its time moves only when told."""
    async with running_plane(tmp_path / "founder", clock=clock) as one:
        yield one
