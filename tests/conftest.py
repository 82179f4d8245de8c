"""What every test gets: hypothesis profiles, and one worker for the tests that start processes."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Deadlines fail on a busy machine and say nothing about the code. CI draws the same examples every time, so a
# red run is reproduced from its commit alone; what a developer's run finds is kept as an @example.
_UNHURRIED = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("swarmplane", _UNHURRIED)
settings.register_profile("ci", _UNHURRIED, derandomize=True, database=None)
settings.register_profile("thorough", _UNHURRIED, max_examples=2_000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "swarmplane")
)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of whole processes run one after another on one worker (``--dist loadgroup``)."""
    for item in items:
        if item.get_closest_marker("process") is not None and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("process"))
