from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from cli.client.joining import join_command, own_join_addresses
from cli.hostflags import host_flags, kept_of, overrides_of
from cli.supervise.founding import here, label_of
from swarmplane.settings.load import load
from swarmplane.settings.schema import NodeSettings, Settings


def _given(*arguments: str) -> dict[str, Any]:
    caught: dict[str, Any] = {}

    @click.command()
    @host_flags
    def command(**given: Any) -> None:
        caught.update(given)

    command.main(list(arguments), standalone_mode=False)
    return caught


def test_no_flags_no_overrides() -> None:
    assert overrides_of(_given()) == ()


def test_flags_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").touch()
    monkeypatch.chdir(tmp_path)
    overrides = overrides_of(
        _given(
            "--lan", "--name", "box", "--swarm", "home", "--advertise", "a", "--advertise", "b",
            "--label", "gpu=a100", "--label", "zone=x,y", "--model", "m.gguf", "--model", "later.gguf",
            "--model", "named", "--models-dir", ".", "--backend", "http://127.0.0.1:8000", "--no-discover",
            "--no-mdns", "--listen", "127.0.0.1:1", "--listen", ":2",
            "--control-listen", ":3", "--join-listen", ":4",
            "--console-listen", ":5", "--peer-listen", ":6", "--admin-listen", ":7",
            "--log-level", "debug", "--log-format", "json", "--set", "drain_s=3", "--set", "engine.slots=2",
        )
    )  # fmt: skip
    settings = load(tmp_path, overrides, {})
    assert settings.node == NodeSettings(
        name="box", labels={"gpu": "a100", "zone": "x,y"}, advertise=("a", "b"), lan=True
    )
    assert settings.swarm.name == "home"
    assert settings.engine.models == (str(tmp_path / "m.gguf"), str(tmp_path / "later.gguf"), "named")
    assert settings.engine.models_dir == tmp_path
    assert [one.url for one in settings.backends] == ["http://127.0.0.1:8000"]
    assert not settings.discovery.backends
    assert not settings.discovery.mdns
    assert settings.client.listen == ("127.0.0.1:1", ":2")
    assert (settings.control.listen, settings.control.join_listen) == (":3", ":4")
    assert (settings.control.console_listen, settings.peer.listen, settings.admin.listen) == (
        ":5",
        ":6",
        ":7",
    )
    assert (settings.log.level, settings.log.format) == ("debug", "json")
    assert (settings.drain_s, settings.engine.slots) == (3, 2)


def test_what_holds_for_one_run_is_not_kept() -> None:
    given = _given(
        "--name", "box", "--lan", "--log-level", "debug", "--log-format", "json", "--set", "drain_s=3"
    )
    assert kept_of(given) == ("node.lan=true", "node.name=box")


def test_a_label_without_a_value_is_usage() -> None:
    with pytest.raises(click.BadParameter):
        overrides_of(_given("--label", "gpu"))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Host.example.org", "host"),
        ("My Mac's", "my-mac-s"),
        ("_x_", "x"),
        ("ü", ""),
        ("a" * 80, "a" * 63),
    ],
)
def test_names_of_hosts_become_labels(text: str, label: str) -> None:
    assert label_of(text) == label


@pytest.mark.parametrize(
    ("address", "reached"),
    [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1"), ("host:1", "host:1")],
)
def test_all_interfaces_is_loopback_from_here(address: str, reached: str) -> None:
    assert here(address) == reached


@pytest.mark.parametrize(
    ("addresses", "role", "line"),
    [
        (["10.0.0.1:11405", "b:1"], "node", "swarmctl join 10.0.0.1 --token T"),
        (["10.0.0.1:9"], "instance", "swarmctl join 10.0.0.1:9 --etcd URL,... --token T"),
        (["[fd00::1]:11405"], "node", "swarmctl join [fd00::1] --token T"),
        (["mac.local"], "operator", "swarmctl login mac.local --token T"),
        ([], "node", ""),
    ],
)
def test_the_line_for_the_next_machine(addresses: list[str], role: str, line: str) -> None:
    assert join_command("T", addresses, role) == line


def test_join_addresses_of_this_machine() -> None:
    settings = Settings(node=NodeSettings(advertise=("mac.local", "fd00::1")))
    assert own_join_addresses(settings, "127.0.0.1:11405") == ()
    assert own_join_addresses(settings, "10.0.0.1:11405") == ("10.0.0.1:11405",)
    assert own_join_addresses(settings, "0.0.0.0:7") == ("mac.local:7", "[fd00::1]:7")
