"""The unmodified ``litellm`` package against a host without models, by each of its providers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import CHAT, NATIVE, World

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

WANTED = [
    f"{provider}={model}" for provider in ("openai", "anthropic", "ollama_chat") for model in (CHAT, NATIVE)
]


def test_every_provider(world: World) -> None:
    program = Path(__file__).with_name("litellm_client.py")
    done = subprocess.run(
        [sys.executable, str(program), world.url, *WANTED],
        capture_output=True,
        text=True,
        timeout=120,
        # It would fetch its prices otherwise.
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    cities = [{"city": "Paris"}, {"city": "Rome"}]
    expected = {
        "whole": "You said: good day",
        "reason": "stop",
        "tokens": 4,
        "stream": ["You", " said:", " good", " day"],
        "calls": cities,
        "streamed_calls": cities,
        "unknown": "not found",
    }
    assert told == dict.fromkeys(WANTED, expected)
