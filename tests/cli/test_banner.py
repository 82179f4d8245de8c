from __future__ import annotations

from collections.abc import Sequence

import pytest

from cli.supervise.banner import open_to_all, why_out_of_reach
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
