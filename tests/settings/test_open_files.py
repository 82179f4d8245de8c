"""The limit of open files: what is asked for, and that a process gets it."""

from __future__ import annotations

import asyncio
import sys

import pytest

from swarmplane.open_files import MOST, wanted_limits

ENDLESS = -1
SHOWN = """
import resource, sys
from swarmplane.open_files import raise_open_files
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
limit = raise_open_files()
print(limit, *resource.getrlimit(resource.RLIMIT_NOFILE))
print(raise_open_files())
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [
        (1024, 524_288, (524_288, 10_240)),
        (1024, 4096, (4096, 4096)),
        (4096, 4096, ()),
        (256, ENDLESS, (MOST, 10_240)),
        (20_000, ENDLESS, (MOST,)),
        (ENDLESS, ENDLESS, ()),
    ],
)
def test_what_is_tried(soft: int, hard: int, wanted: tuple[int, ...]) -> None:
    assert wanted_limits(soft, hard, endless=ENDLESS) == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
async def test_the_soft_limit_is_lifted_to_the_hard_one() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SHOWN, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        told, _ = await process.communicate()
    first, again = told.decode().splitlines()
    limit, soft, hard = map(int, first.split())
    assert limit == soft > 64
    assert limit == hard or hard < 0 or limit == 10_240
    assert int(again) == limit
