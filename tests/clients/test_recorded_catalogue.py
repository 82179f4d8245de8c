"""How Claude Code and Continue look which models there are."""

from __future__ import annotations

import pytest

from tests.clients.conftest import CHAT, NATIVE, World
from tests.clients.replaying import replay

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


def test_claude_code_lists_models(world: World) -> None:
    answer = replay(world, "claude_code", "models", CHAT)
    assert answer.status == 200
    document = answer.document
    assert {"first_id", "last_id", "has_more"} <= set(document)
    listed = {one["id"]: one for one in document["data"]}
    assert {CHAT, NATIVE} <= set(listed)
    assert all(one["type"] == "model" and one["display_name"] for one in listed.values())


@pytest.mark.parametrize("model", [pytest.param(CHAT, id="vllm"), pytest.param(NATIVE, id="ollama")])
def test_continue_asks_what_a_model_can(world: World, model: str) -> None:
    shown = replay(world, "continue", "show", model)
    assert shown.status == 200
    assert "completion" in shown.document["capabilities"]
