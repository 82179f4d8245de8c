from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from sidecar.settings import ListenPolicy, redacted
from swarmplane import logs
from swarmplane.addresses import Address
from swarmplane.errors import UnavailableError
from swarmplane.listening import adopted_socket, bound_address, holder_of, listening_socket
from swarmplane.settings.backend import BackendSettings
from swarmplane.settings.schema import AdminSettings, PeerSettings, Settings


def test_listeners_come_from_the_settings() -> None:
    defaults = ListenPolicy.of(Settings())
    assert [str(a) for a in defaults.client] == ["127.0.0.1:11400"]
    assert (str(defaults.admin), defaults.peer) == ("127.0.0.1:11402", None)
    named = ListenPolicy.of(Settings(peer=PeerSettings(listen="10.0.0.1:11403")))
    assert named.peer == Address("10.0.0.1", 11403)
    with pytest.raises(ValidationError, match="nowhere"):
        AdminSettings(listen="nowhere")


def test_secrets_are_not_shown() -> None:
    settings = Settings(
        backends=(
            BackendSettings(url="http://me:hunter2@10.0.0.1:80/v1", key_file=Path("/keys/k")),
            BackendSettings(url="http://10.0.0.1:80"),
        )
    )
    shown = redacted(settings)
    assert "hunter2" not in json.dumps(shown)
    assert shown["backends"][0]["url"] == "http://***@10.0.0.1:80/v1"
    assert shown["backends"][0]["key_file"] == str(Path("/keys/k"))
    assert shown["backends"][1]["url"] == "http://10.0.0.1:80"
    assert shown["drain_s"] == 60.0


def test_a_busy_port_names_its_holder_and_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(
            UnavailableError, match=rf"127.0.0.1:{port} is in use.*--listen HOST:PORT"
        ) as refused:
            listening_socket(Address("127.0.0.1", port), flag="--listen")
        named = holder_of(port)
        assert named in refused.value.message
    assert holder_of(0) == ""


def test_a_listener_that_cannot_be_had_says_why() -> None:
    with pytest.raises(UnavailableError, match=r"192\.0\.2\.1:1.*--peer-listen"):
        listening_socket(Address("192.0.2.1", 1), flag="--peer-listen")
    with pytest.raises(UnavailableError, match="no-such-host"):
        listening_socket(Address("no-such-host.invalid", 1), flag="--listen")


def test_port_zero_takes_a_free_one_and_the_parents_socket_is_adopted() -> None:
    with listening_socket(Address("localhost", 0), flag="--listen") as bound:
        assert bound_address(bound).port > 0
        with adopted_socket(bound.dup().detach()) as adopted:
            assert bound_address(adopted) == bound_address(bound)
            assert not adopted.getblocking()
    with socket.socket() as idle, pytest.raises(UnavailableError, match="does not listen"):
        adopted_socket(idle.dup().detach())
    with pytest.raises(UnavailableError, match="no socket"):
        adopted_socket(999_999)


@pytest.fixture
def log_state() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("log_state")
def test_lines_are_json_from_the_level_on_and_libraries_come_along() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    log = structlog.get_logger()
    log.debug("not.shown")
    log.info("node.joined", node="bee")
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("aiohttp.server").warning("trouble %s", 7)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["node.joined", "trouble 7"]
    assert (lines[0]["node"], lines[0]["level"], lines[1]["logger"]) == ("bee", "info", "aiohttp.server")
    logs.configure("debug", "json", out)
    log.debug("shown")
    assert out.getvalue().splitlines()[-1].count("shown") == 1


@pytest.mark.usefixtures("log_state")
def test_text_shows_a_failure_without_the_values_of_variables() -> None:
    out = io.StringIO()
    logs.configure("info", "text", out)
    prompt = "a secret prompt"
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("request.failed")
    assert "ValueError: broken" in out.getvalue()
    assert prompt not in out.getvalue()


@pytest.mark.usefixtures("log_state")
def test_a_reader_that_died_does_not_stop_the_writer() -> None:
    class Dead(io.StringIO):
        def write(self, _text: str, /) -> int:
            raise BrokenPipeError

    logs.configure("info", "text", Dead())
    structlog.get_logger().info("still.serving")
