"""Commands run in this process, and data directories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.main import main


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def swarmctl(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run ``swarmctl`` on a data directory of the test's own."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("SWARMPLANE_CONTEXT", raising=False)
    monkeypatch.delenv("SWARMPLANE_DISCOVERY__BACKENDS", raising=False)  # commands show what is set

    def call(*arguments: str, data_dir: Path | None = tmp_path) -> Done:
        where: tuple[Any, ...] = () if data_dir is None else ("--data-dir", str(data_dir))
        status = main([*arguments, *where])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return call
