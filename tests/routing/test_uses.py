"""Which models are in use here. Kills: the time of the first request kept; models kept for ever."""

from __future__ import annotations

from sidecar.routing.uses import USED_S, Uses
from swarmplane.ids import ModelName


def test_a_model_is_in_use_for_a_minute_after_its_last_request() -> None:
    uses, a, b = Uses(), ModelName("a"), ModelName("b")
    assert uses.lately(0.0) == frozenset()
    uses.note(a, 1.0)
    uses.note(b, 2.0)
    uses.note(a, 30.0)
    assert uses.lately(30.0) == {a, b}
    assert uses.lately(2.0 + USED_S) == {a}
    assert uses.lately(30.0 + USED_S) == frozenset()
