from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cli.exposure import keyless, open_to_all, told_auth, told_open
from cli.supervise.banner import announce, why_out_of_reach
from swarmplane.datadir import DataDir
from swarmplane.runtime import Runtime
from swarmplane.settings.schema import ClientSettings, NodeSettings, Settings


@pytest.mark.parametrize(
    ("told", "control", "words"),
    [
        pytest.param(["127.0.0.1:1"], ["127.0.0.1:2"], "", id="a-swarm-of-one-machine"),
        pytest.param(["10.0.0.2:1"], ["10.0.0.1:2"], "", id="a-member-elsewhere"),
        pytest.param(["127.0.0.1:1"], ["10.0.0.1:2"], "--peer-listen", id="loopback-is-told"),
        pytest.param([], ["10.0.0.1:2"], "--advertise", id="nothing-is-told"),
        pytest.param(["127.0.0.1:1"], ["127.0.0.1:2", "10.0.0.1:2"], "127.0.0.1:1", id="a-founder-on-a-lan"),
        pytest.param(["127.0.0.1:1", "10.0.0.2:1"], ["10.0.0.1:2"], "", id="one-address-is-enough"),
    ],
)
def test_why_a_node_is_out_of_reach(told: Sequence[str], control: Sequence[str], words: str) -> None:
    reason = why_out_of_reach(told, control)
    assert words in reason
    assert bool(reason) == bool(words)


def test_listening_beyond_loopback_without_keys_is_said() -> None:
    wide = Settings(client=ClientSettings(listen=("127.0.0.1:1", "0.0.0.0:2")))
    (warning,) = open_to_all(wide)
    assert "everybody who reaches 0.0.0.0:2" in warning
    assert open_to_all(Settings()) == ()
    assert open_to_all(Settings(node=NodeSettings(lan=True)))
    for auth in ("lan", "always"):
        guarded = ClientSettings(listen=("0.0.0.0:2",), auth=auth)
        assert open_to_all(Settings(client=guarded)) == ()


def test_a_host_that_runs_tells_where_everybody_is_served() -> None:
    told = {"settings": Settings(node=NodeSettings(lan=True)).model_dump(mode="json")}
    assert told_open(told) == open_to_all(Settings(node=NodeSettings(lan=True)))
    assert told_open({"settings": Settings().model_dump(mode="json")}) == ()
    assert told_open({}) == ()


def test_that_keys_are_asked_for_and_there_is_none_is_said() -> None:
    """Kills: a warning before anybody told how many there are, or where none is needed."""
    for auth, who in (("always", "everybody is refused"), ("lan", "every client of another machine")):
        (warning,) = keyless(auth, {"keys": 0})
        assert who in warning
        assert warning.endswith("swarmctl key create")
        assert keyless(auth, {"keys": 1}) == keyless(auth, {"keys": None}) == keyless(auth, {}) == ()
    assert keyless("none", {"keys": 0}) == ()
    assert told_auth({"settings": Settings().model_dump(mode="json")}) == "none"
    assert told_auth({}) == told_auth({"settings": []}) == ""


async def test_a_host_without_a_table_is_ready_before_it_knows_of_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kills: ``ready:`` waits for the first table. This one comes once the host was said to be ready."""
    said: list[str] = []

    async def routes(_: web.Request) -> web.Response:
        said.append(capsys.readouterr().err)
        return web.json_response({"keys": 0 if "ready: " in "".join(said) else None})

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m"}]})

    app = web.Application()
    app.router.add_get("/routes", routes)
    app.router.add_get("/v1/models", models)
    async with TestServer(app) as server:
        url = str(server.make_url(""))
        runtime = Runtime(1, "n", "a", "", urls={"admin": url, "client": url})
        always = Settings(client=ClientSettings(auth="always"))
        await announce(DataDir(tmp_path), always, runtime, founder=False)
    lines = "".join([*said, capsys.readouterr().err]).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["ready:", "warning:"]
    assert "everybody is refused" in lines[1]
