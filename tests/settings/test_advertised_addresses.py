from __future__ import annotations

from collections.abc import Sequence

import pytest

from swarmplane.advertise import Interface, advertised, default_route_sources, machine_interfaces

LOOPBACK = Interface("lo", ("127.0.0.1", "::1"))
LAN = Interface("eth0", ("192.168.1.20", "fe80::1%eth0"))
WIFI = Interface("wlan0", ("192.168.7.3",))
DOCKER = Interface("docker0", ("172.17.0.1",))
BRIDGE = Interface("br0", ("10.0.0.5",))
TAILNET = Interface("tailscale0", ("100.100.3.4", "fd7a:115c:a1e0::9"))


@pytest.mark.parametrize(
    ("asked", "interfaces", "routes", "expected"),
    [
        pytest.param([], [LOOPBACK], [], (), id="loopback-is-never-told"),
        pytest.param([], [LOOPBACK, LAN, WIFI], ["192.168.1.20"], ("192.168.1.20",), id="the-default-route"),
        pytest.param(
            [],
            [LAN, TAILNET],
            ["192.168.1.20"],
            ("192.168.1.20", "100.100.3.4", "fd7a:115c:a1e0::9"),
            id="then-the-tailnet",
        ),
        pytest.param([], [TAILNET], [], ("100.100.3.4", "fd7a:115c:a1e0::9"), id="a-tailnet-alone"),
        pytest.param([], [LOOPBACK, DOCKER], [], (), id="a-container-bridge-is-never-told"),
        pytest.param([], [LAN, DOCKER], [], ("192.168.1.20",), id="without-a-route-what-is-usable"),
        pytest.param([], [BRIDGE, DOCKER], ["10.0.0.5"], ("10.0.0.5",), id="a-bridge-with-the-default-route"),
        pytest.param(
            [], [LAN], ["169.254.3.3", "fe80::9%eth0"], ("192.168.1.20",), id="link-local-is-never-told"
        ),
        pytest.param(["mac.local", "mac.local"], [LAN], ["192.168.1.20"], ("mac.local",), id="asked-wins"),
        pytest.param(
            [],
            [Interface("eth1", ("10.9.9.9",), up=False), LAN],
            [],
            ("192.168.1.20",),
            id="down-is-not-told",
        ),
        pytest.param(
            [], [LAN], ["192.168.1.20", "not an address"], ("192.168.1.20",), id="nonsense-is-skipped"
        ),
    ],
)
def test_advertised(
    asked: Sequence[str], interfaces: Sequence[Interface], routes: Sequence[str], expected: tuple[str, ...]
) -> None:
    assert advertised(asked, interfaces, routes) == expected


def test_this_machine_can_be_asked() -> None:
    assert any("127.0.0.1" in one.addresses for one in machine_interfaces())
    assert all(isinstance(source, str) for source in default_route_sources())
