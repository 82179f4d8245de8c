"""Two machines on one network: the join line a founder prints, pasted alone, is enough."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from swarmplane import models
from tests.e2e.hosts import eventually
from tests.e2e.lan import Terminal, curl, lan

pytestmark = [pytest.mark.process, pytest.mark.root, pytest.mark.timeout(240)]

MODEL = "tiny-trained-q8"
ASK = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "What does the lion eat?"}]})


@pytest.mark.parametrize("proxied", [False, True], ids=["plain", "with-proxy-variables-set"])
def test_the_join_line_pasted_alone_joins_and_serves(tmp_path: Path, proxied: bool) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    dead = "http://10.77.0.99:3128"
    env = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"), dead)
    env = env if proxied else {}
    with lan(2) as (a, b):
        founder = Terminal(
            a, "swarmctl up --lan --no-discover --no-mdns --name a", tmp_path / "a", tmp_path / "a.log", **env
        )
        try:
            eventually("A is ready", lambda: "ready:" in founder.text(), within_s=60)
            line = eventually(
                "A printed a join line",
                lambda: re.search(
                    r"swarmctl join 10\.77\.0\.1\S* [^\r\n]*swp1\.[^\s]+[^\r\n]*", founder.text()
                ),
                within_s=10,
            ).group(0)
            member = Terminal(
                b, line.strip(), tmp_path / "b", tmp_path / "b.log",
                SWARMPLANE_ENGINE__MODELS=str(models.path(MODEL)), **env,
            )  # fmt: skip
            try:
                eventually("B is ready", lambda: "ready:" in member.text(), within_s=60)
                answer = eventually(
                    "A serves B's model",
                    lambda: (text := curl(a, "/v1/chat/completions", ASK)) and "meat" in text and text,
                    within_s=60,
                    every_s=0.5,
                )
                assert "The lion eats meat." in json.loads(answer)["choices"][0]["message"]["content"]
            except BaseException as error:
                error.add_note(f"A: {founder.text()[-3000:]}\nB: {member.text()[-3000:]}")
                raise
            finally:
                member.close()
        finally:
            founder.close()
