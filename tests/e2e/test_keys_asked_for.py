"""A host whose clients need keys says so while there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.hosts import Swarm, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
ASKED = "client.auth = always asks for API keys, and there is none"
WORDS = f"{ASKED}; make one for each client: swarmctl key create"


def test_until_there_is_a_key_it_is_said_at_start_in_status_and_by_the_doctor(
    swarm: Swarm, tmp_path: Path
) -> None:
    a = swarm.host("a")
    a.up(env={"SWARMPLANE_CLIENT__AUTH": "always"})
    eventually("it is said at start", lambda: WORDS in a.log.read_text(), within_s=30)
    assert f"warning  everybody is refused: {WORDS}" in a.ctl("status").stdout
    (row,) = (one for one in a.json("doctor")["items"] if one["id"] == "network.exposed")
    assert (row["state"], WORDS in row["detail"], row["fix"]) == ("failed", True, "swarmctl key create")
    kept = tmp_path / "key"
    kept.write_text(a.ctl("key", "create", "--name", "openai").stdout)
    eventually("no more", lambda: WORDS not in a.ctl("status").stdout)
    refused = a.ctl("connect", "openai")
    assert refused.returncode == 1
    assert "swarmctl key create --name openai > FILE" in refused.stderr
    wrong = tmp_path / "wrong"
    wrong.write_text("sk-swarm-wrong")
    assert "refuses this API key" in a.ctl("connect", "openai", "--key-file", str(wrong)).stderr
    shown = a.ctl("connect", "openai", "--key-file", str(kept)).stdout
    assert f"OPENAI_API_KEY={kept.read_text()}" in shown
