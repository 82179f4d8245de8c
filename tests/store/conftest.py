"""The stores that every conformance test runs against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.harness import EmbeddedHarness, Harness

HARNESSES: dict[str, Callable[[Path], Harness]] = {
    "embedded": lambda directory: EmbeddedHarness(directory / "controlplane" / "store.db"),
}


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    return HARNESSES[request.param](tmp_path)
