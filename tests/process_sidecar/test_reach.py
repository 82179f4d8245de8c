from __future__ import annotations

from collections.abc import Sequence

import pytest

from sidecar.process.reach import Reach, choose_reach, find_reach, source_towards
from swarmplane.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("listen", "advertise", "source", "machine", "lan", "bind", "hosts"),
    [
        pytest.param(
            "", (), "127.0.0.1", ("10.0.0.5",), False, "127.0.0.1:11403", ("127.0.0.1",), id="one-machine"
        ),
        pytest.param(
            "", (), "10.0.0.5", ("10.0.0.5", "100.64.0.1"), False, "10.0.0.5:11403", ("10.0.0.5",),
            id="the-address-that-reaches-the-control-plane",
        ),
        pytest.param(
            "", (), "127.0.0.1", ("10.0.0.5",), True, "10.0.0.5:11403", ("10.0.0.5",), id="founder-on-a-lan"
        ),
        pytest.param(
            "", (), "127.0.0.1", ("10.0.0.5", "100.64.0.1"), True, "0.0.0.0:11403",
            ("10.0.0.5", "100.64.0.1"), id="founder-on-two-networks",
        ),
        pytest.param(
            "", ("mac.local",), "10.0.0.5", ("10.0.0.5",), False, "0.0.0.0:11403", ("mac.local",),
            id="told-what-to-tell",
        ),
        pytest.param(
            "", ("fd00::5",), "10.0.0.5", ("10.0.0.5",), False, "[::]:11403", ("fd00::5",), id="told-an-ipv6"
        ),
        pytest.param(
            "0.0.0.0:0", (), "10.0.0.5", ("10.0.0.5",), False, "0.0.0.0:0", ("10.0.0.5",), id="all-interfaces"
        ),
        pytest.param(
            "192.168.1.2:7000", (), "10.0.0.5", (), False, "192.168.1.2:7000", ("192.168.1.2",),
            id="one-of-many",
        ),
        pytest.param(
            "192.168.1.2:7000", ("nat.example",), "10.0.0.5", (), False, "192.168.1.2:7000", ("nat.example",),
            id="behind-a-translation",
        ),
        pytest.param("", (), "", ("10.0.0.5",), False, "10.0.0.5:11403", ("10.0.0.5",), id="no-route-now"),
        pytest.param("", (), "", (), True, "127.0.0.1:11403", ("127.0.0.1",), id="no-network-at-all"),
    ],
)  # fmt: skip
def test_choose_reach(
    listen: str,
    advertise: Sequence[str],
    source: str,
    machine: Sequence[str],
    lan: bool,
    bind: str,
    hosts: Sequence[str],
) -> None:
    reach = choose_reach(
        listen=parse_address(listen) if listen else None,
        default_port=11403,
        advertise=advertise,
        source=source,
        machine=machine,
        lan=lan,
    )
    assert (str(reach.bind), reach.hosts) == (bind, tuple(hosts))


def test_what_is_told_carries_the_port_in_use() -> None:
    assert Reach(Address("::", 0), ("fd00::5", "mac.local")).advertised(7) == ("[fd00::5]:7", "mac.local:7")


async def test_the_way_to_the_control_plane_decides() -> None:
    assert await source_towards(Address("127.0.0.1", 9)) == "127.0.0.1"
    assert await source_towards(Address("no-such-host.invalid", 9)) == ""
    reach = await find_reach(
        listen=None, default_port=0, advertise=(), control=("no-such.invalid:1", "127.0.0.1:11401"), lan=False
    )
    assert reach == Reach(Address("127.0.0.1", 0), ("127.0.0.1",))
