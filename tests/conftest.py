"""What every test gets: hypothesis profiles, and a schedule in which whole processes don't compete."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

# Deadlines fail on a busy machine and say nothing about the code. CI draws the same examples every time, so a
# red run is reproduced from its commit alone; what a developer's run finds is kept as an @example.
_UNHURRIED = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("swarmplane", _UNHURRIED)
settings.register_profile("ci", _UNHURRIED, derandomize=True, database=None)
settings.register_profile("thorough", _UNHURRIED, max_examples=2_000)
# For bugs that are put in: that one is found is enough, and which example is the smallest takes longest.
settings.register_profile(
    "mutants", _UNHURRIED, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "swarmplane")
)

# Hosts that tests start must not find what other tests listen with; those that look for it say where.
os.environ["SWARMPLANE_DISCOVERY__BACKENDS"] = "false"

_PROCESSES_S = 180.0
"""A test of processes that hangs ends then; others by pyproject.toml's limit. What takes processes fifteen
seconds may take a minute on a busy machine, and who runs out of time takes its worker along."""
_WHOLE_SWARMS = ("tests/e2e/", "tests/clients/")
_OF_THE_CORES = ("tests/core_controlplane/", "tests/core_sidecar/")
"""Their coverage is measured, and is whole by itself: watching other tests would cost a third more time."""


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is watched, how long each has, and on a worker the whole swarms, which take longest, first."""
    # With --no-cov the plugin has nothing that it could pause, and fails at the marker.
    for item in () if config.getoption("no_cov", default=True) else items:
        if not _file(item.nodeid).startswith(_OF_THE_CORES):
            item.add_marker("no_cover")
    for item in items:
        processes = item.get_closest_marker("process") or _file(item.nodeid).startswith(_WHOLE_SWARMS)
        if processes and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_PROCESSES_S))
    if hasattr(config, "workerinput"):
        sizes = Counter(_file(item.nodeid) for item in items)
        items.sort(
            key=lambda item: (
                not (whole := _file(item.nodeid).startswith(_WHOLE_SWARMS)),
                -sizes[_file(item.nodeid)] if whole and _alone(config) else 0,
            )
        )


def _alone(config: pytest.Config) -> bool:
    """Whether only tests run that wait most of their time, for elections and leases (``make test-etcd``)."""
    return str(config.option.markexpr) == "etcd_cluster"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """A file is one worker's, and so are all whole swarms of an area, one after another, if others run too.

    Not xdist's own groups: xdist 3.8 silently ignores them under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneSwarmAtATime(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = _file(nodeid)
            one_after_another = () if _alone(config) else _WHOLE_SWARMS
            return next((area for area in one_after_another if file.startswith(area)), file)

    config.option.loadscopereorder = False
    return OneSwarmAtATime(config, log)
