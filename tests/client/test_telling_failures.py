"""Of several failures of one call the one is raised that says what to do, not that the time was over.

Mutants that were tried and are killed: the last failure raised always; the first one raised always.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from swarmplane.client.blocking_transport import BlockingTransport
from swarmplane.client.retrying import Retry
from swarmplane.client.transport import Transport
from swarmplane.errors import ForbiddenError, SwarmError, UnavailableError
from tests.fakes.clock import FakeClock

NOBODY: Any = None
TOLD = UnavailableError("a majority of its members must run")
LATE = UnavailableError("the control plane did not answer in time")
NO = ForbiddenError("not you")


class Failing(Transport):
    """Fails in a given way, the last time when the time is over."""

    def __init__(self, clock: FakeClock, *failures: SwarmError) -> None:
        super().__init__(["127.0.0.1:1"], NOBODY, Retry(timeout_s=5.0), clock=clock, draw=lambda: 0.0)
        self._fake = clock
        self._failures = list(failures)

    async def _try(self, call: Any, address: str, left_s: float) -> Any:
        del call, address
        error = self._failures.pop(0)
        if error is LATE:
            await self._fake.advance(left_s)
        raise error


class BlockingFailing(BlockingTransport):
    """The same for threads."""

    def __init__(self, *failures: SwarmError) -> None:
        super().__init__(["127.0.0.1:1"], NOBODY, Retry(timeout_s=0.2), draw=lambda: 0.0)
        self._failures = list(failures)

    def _try(self, call: Any, address: str, left_s: float) -> Any:
        del call, address
        error = self._failures.pop(0)
        if error is LATE:
            time.sleep(left_s)
        raise error


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        pytest.param([TOLD, TOLD, LATE], TOLD, id="told-before-the-time-was-over"),
        pytest.param([LATE], LATE, id="nothing-was-told"),
        pytest.param([TOLD, NO], NO, id="a-refusal-in-time"),
    ],
)
async def test_what_is_raised(failures: list[SwarmError], raised: SwarmError) -> None:
    with pytest.raises(type(raised), match=raised.message):
        await Failing(FakeClock(1.0), *failures).call(NOBODY)
    with pytest.raises(type(raised), match=raised.message):
        BlockingFailing(*failures).call(NOBODY)
