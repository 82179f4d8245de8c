"""The unmodified npm packages ``openai`` and ``ai`` against a host without models (``make conformance``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import CHAT, EMBEDDER, NATIVE, NATIVE_EMBEDDER, SEER, World

PACKAGES = Path(__file__).with_name("javascript")
OLDEST = 20

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]


def _missing() -> str:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "node and npm are not on PATH"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < OLDEST:
        return f"node {version.strip()} is older than {OLDEST}"
    if not (PACKAGES / "node_modules").is_dir():
        return "its packages are not installed: make conformance does that"
    return ""


@pytest.mark.parametrize("client", ["openai", "ai"])
def test_javascript(world: World, client: str) -> None:
    reason = _missing()
    if reason:
        pytest.skip(reason)
    backends = [
        {"name": "vllm", "chat": CHAT, "sees": CHAT, "embeds": EMBEDDER},
        {"name": "ollama", "chat": NATIVE, "sees": SEER, "embeds": NATIVE_EMBEDDER},
    ]
    done = subprocess.run(
        ["node", "--test", "--test-concurrency=1", "--test-reporter=spec", f"{client}.test.mjs"],
        cwd=PACKAGES,
        capture_output=True,
        text=True,
        timeout=240,
        env={
            **os.environ,
            "SWARM_URL": world.url,
            "SWARM_SERVERS": json.dumps({"vllm": world.vllm.url, "ollama": world.ollama.url}),
            "SWARM_BACKENDS": json.dumps(backends),
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
