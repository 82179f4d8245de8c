"""Real hosts tell each other how they are and what is warm where; people set policies and ask why."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.hosts import Backend, Host, Swarm, eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MODEL = "shared-model"


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    found = [Backend(MODEL) for _ in range(2)]
    yield found
    for one in found:
        one.close()


def ask(host: Host, prompt: str, **headers: str) -> tuple[int, str]:
    """Status, and the node that served."""
    connection = http.client.HTTPConnection("127.0.0.1", host.ports["listen"], timeout=60)
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": "hi"}]
    # Prompts take their time: else it would not matter who has them cached.
    given = {
        "content-type": "application/json",
        "x-fake": "delay_s=0.4",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps({"model": MODEL, "messages": messages}), given
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("x-swarm-node", "")
    finally:
        connection.close()


def test_a_second_entry_node_knows_what_is_warm_and_history_survives(
    swarm: Swarm, backends: list[Backend]
) -> None:
    """The founder warms one member's cache; the other member, whose own backend is cold, asks that one."""
    a, b, c = swarm.host("a"), swarm.host("b"), swarm.host("c")
    a.up()
    token = a.token("--uses", "0")
    b.join(token, a, "--backend", backends[0].url)
    c.join(token, a, "--backend", backends[1].url)
    for host in (a, b, c):
        eventually("all endpoints are known", lambda host=host: len(endpoints(host)) == 2)
    eventually(
        "conditions arrive",
        lambda: all(one["facts"]["pressure"] is not None for one in endpoints(a)),
    )
    # Four slots of 4,096 tokens are believed to hold 64 blocks: three prompts of 19.
    prompts = [f"{number} warm " * 2400 for number in range(3)]
    for prompt in prompts:
        assert ask(a, prompt, x_swarm_node="c") == (200, "c")
        time.sleep(0.5)
    # Within 5 s the owner tells, and the others are told. Who asks before that warms its own backend.
    time.sleep(6.0)
    eventually("the second entry node asks the warm one", lambda: ask(b, prompts[0])[1] == "c")
    assert [ask(b, prompt)[1] for prompt in prompts] == ["c", "c", "c"]

    seen = a.json("explain", MODEL, "--node", "b", "--prompt-tokens", "512")
    assert (seen["asked_node"], seen["model"], seen["prompt_tokens"]) == ("b", MODEL, 512)
    assert {item["node"] for item in seen["items"]} == {"b", "c"}
    assert all(item["cost"]["latency"] > 0.0 for item in seen["items"])
    own = a.json("explain", MODEL)
    assert "asked_node" not in own, "this host runs: its own view"

    policies = a.data_dir / "policies.toml"
    policies.write_text(f'[models."{MODEL}"]\nstrategy = "failover"\n')
    assert a.json("policy", "apply", "-f", str(policies))["items"][0]["strategy"] == "failover"
    eventually("the policy is in force", lambda: b.json("explain", MODEL)["strategy"] == "failover")
    assert ask(b, "short", x_swarm_prefer="c") == (200, "c")
    assert ask(b, "short") == (200, "b")
    policies.write_text('[swarm]\nstrategy = "fastest"\n')
    refused = a.ctl("policy", "apply", "-f", str(policies))
    assert refused.returncode == 2
    assert "least_cost" in refused.stderr

    before = next(one for one in endpoints(b) if one["node"] == "c")
    assert before["ewma_ttft_s"] is not None
    b.close()
    assert (b.data_dir / "history" / "latency.jsonl").stat().st_mode & 0o777 == 0o600
    b.start(["up"], founder=False)
    after = eventually("c is known again", lambda: [one for one in endpoints(b) if one["node"] == "c"])
    assert after[0]["ewma_ttft_s"] is not None, "measured before the restart"


def endpoints(host: Host) -> list[dict[str, object]]:
    items: list[dict[str, object]] = host.get("/endpoints", admin=True)["items"]
    return [one for one in items if one["model"] == MODEL]
