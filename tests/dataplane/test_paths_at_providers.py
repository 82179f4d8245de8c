"""What clients may ask of a provider in the cloud with its owner's key: models' answers, and nothing else."""

from __future__ import annotations

import pytest

from swarmplane.providers import kind_of
from tests.fakes.backend import FakeBackend
from tests.fakes.dataplane import CHAT, Served, client, running_node


@pytest.mark.parametrize(
    ("path", "own", "provider"),
    [
        ("/v1/chat/completions", 200, 200),
        ("/v1/moderations", 200, 200),
        ("/v1/realtime/client_secrets", 200, 400),
        ("/v1/fine_tuning/jobs", 200, 400),
        ("/v1/assistants?limit=1", 200, 400),
        ("/v1/chat/completions/x", 200, 400),
    ],
)
async def test_paths_that_make_keys_or_jobs_are_not_the_clients(
    backend: FakeBackend, path: str, own: int, provider: int
) -> None:
    served = {
        "own": Served(backend, "m1"),
        "cloud": Served(backend, "m2", "cloud:m2", kind=kind_of("openai", "named")),
    }
    async with running_node(served=served) as node, client(node) as http:
        assert (await http.ask({**CHAT, "model": "m1"}, path)).status == own
        for _ in range(2):  # The second head is the first one's again.
            answer = await http.ask({**CHAT, "model": "cloud:m2"}, path)
            assert answer.status == provider
            if provider != 200:
                assert "does not serve this path" in answer.json["error"]["message"]
    assert len(backend.asked) == 1 + 2 * (provider == 200)
