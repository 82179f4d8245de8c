"""Swarms of real hosts, one per test or one per module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosts import Swarm


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    """An empty swarm; its hosts stop with the test."""
    one = Swarm(tmp_path)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def shared_swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """A swarm that the tests of a module share; they leave it as they found it."""
    one = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        yield one
    finally:
        one.close()
