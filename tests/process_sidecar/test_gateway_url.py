"""Where clients are told to ask a gateway."""

from __future__ import annotations

import pytest

from sidecar.process.gateway import gateway_url
from swarmplane.addresses import Address

LOOPBACK, EVERYWHERE = Address("127.0.0.1", 11400), Address("0.0.0.0", 11400)


@pytest.mark.parametrize(
    ("clients", "advertised", "url"),
    [
        ([EVERYWHERE], ["192.0.2.7:11403", "100.64.0.1:11403"], "http://192.0.2.7:11400"),
        ([EVERYWHERE], ["127.0.0.1:11403", "gate.example:1"], "http://gate.example:11400"),
        ([Address("::", 80)], ["[2001:db8::7]:11403"], "http://[2001:db8::7]:80"),
        ([LOOPBACK, Address("192.0.2.9", 80)], ["192.0.2.7:11403"], "http://192.0.2.9:80"),
        ([LOOPBACK], ["192.0.2.7:11403"], "http://127.0.0.1:11400"),
        ([EVERYWHERE], [], "http://127.0.0.1:11400"),
    ],
)
def test_it_is_an_address_of_this_machine_with_the_clients_port(
    clients: list[Address], advertised: list[str], url: str
) -> None:
    assert gateway_url(clients, advertised) == url
