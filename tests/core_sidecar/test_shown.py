"""What a model's own server shows of it."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.core.shown import Shown


def test_what_is_not_told_is_empty_and_nobody_writes_into_it() -> None:
    """Kills: one dict of facts that all share, and any may change."""
    facts: Any = Shown().facts
    assert dict(facts) == {}
    with pytest.raises(TypeError):
        facts["general.architecture"] = "llama"
    assert Shown(facts={"general.architecture": "llama"}).facts == {"general.architecture": "llama"}
