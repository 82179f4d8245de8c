"""What hosts tell of themselves on the local network, there and back, and what nobody should believe."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmplane.addresses import Address
from swarmplane.discovery.announcement import Announcement, properties_of, read_properties
from swarmplane.discovery.peers import Peer, judged
from swarmplane.discovery.scan import told
from swarmplane.discovery.subnets import MOST_ADDRESSES, around, hosts_of
from swarmplane.enrollment import Authority
from swarmplane.errors import InvalidRequestError

ID = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=60)
NAME = st.text(string.ascii_lowercase, min_size=1, max_size=40)
HOST = st.integers(1, 254).map(lambda last: f"192.168.7.{last}:11405")
DESK = Announcement("n1", "desk", "s1", "home", "f" * 52, ("192.168.7.1:11405",), 11400)


def _wire(one: Announcement) -> dict[bytes, bytes | None]:
    return {key.encode(): value.encode() for key, value in properties_of(one).items()}


@given(
    st.builds(
        Announcement,
        node=ID,
        node_name=NAME,
        swarm=ID,
        swarm_name=NAME,
        fingerprint=ID,
        join=st.lists(HOST, max_size=8, unique=True).map(tuple),
        client_port=st.integers(0, 65_535),
        gateway=st.booleans(),
        version=NAME,
    )
)
def test_what_is_told_is_read_back(one: Announcement) -> None:
    assert read_properties(_wire(one)) == one


@given(st.dictionaries(st.binary(max_size=8), st.none() | st.binary(max_size=300), max_size=12))
def test_nothing_that_is_told_raises(properties: dict[bytes, bytes | None]) -> None:
    read_properties(properties)
    read_properties({**_wire(DESK), **properties})


def test_every_string_of_a_record_fits() -> None:
    long = Announcement(
        "n1", "d" * 500, "s1", "h" * 500, "f" * 52, tuple(f"host-{i:050}:11405" for i in range(9))
    )
    assert all(len(key) + 1 + len(value.encode()) <= 255 for key, value in properties_of(long).items())
    assert read_properties(_wire(long)) is not None


@pytest.mark.parametrize(
    "wrong",
    [{b"v": b"2"}, {b"node": b"a b"}, {b"node": None}, {b"name": b""}, {b"fp": b""}, {b"swarm": b"../x"}],
    ids=str,
)
def test_what_is_no_announcement_is_none(wrong: dict[bytes, bytes | None]) -> None:
    assert read_properties({**_wire(DESK), **wrong}) is None


def test_addresses_that_lead_nowhere_are_left_out() -> None:
    joins = b"127.0.0.1:1,0.0.0.0:2,nonsense,10.0.0.1:0,10.0.0.1:11405,10.0.0.1:11405"
    found = read_properties({**_wire(DESK), b"join": joins})
    assert found is not None
    assert found.join == ("10.0.0.1:11405",)


def test_a_host_about_to_found_has_no_swarm() -> None:
    one = read_properties(_wire(Announcement("n1", "desk")))
    assert one is not None
    assert one.founding


def test_a_member_that_was_scanned_tells_where_to_join() -> None:
    document = {
        "swarm": "s1",
        "swarm_name": "home",
        "node": "desk",
        "fingerprint": "f",
        "join": ["127.0.0.1:5"],
    }
    found = told(document, Address("192.168.7.1", 11400))
    assert found is not None
    assert found.announcement.join == ("192.168.7.1:5",)
    assert told({"swarm": None, "node": "desk"}, Address("192.168.7.1", 11400)) is None
    assert told({"swarm": "s1", "node": "desk", "join": 7}, Address("192.168.7.1", 11400)) is not None


def test_a_scan_asks_private_networks_of_this_machine() -> None:
    assert around(["192.168.7.9", "8.8.8.8", "127.0.0.1", "fd00::1", "192.168.7.10"]) == ("192.168.7.0/24",)
    hosts = hosts_of(["192.168.7.0/30"], own=["192.168.7.1"])
    assert hosts == ("192.168.7.2",)


@pytest.mark.parametrize("network", ["nonsense", "fd00::/120", "10.0.0.0/8"])
def test_networks_that_can_not_be_scanned_are_refused(network: str) -> None:
    with pytest.raises(InvalidRequestError, match=network):
        hosts_of([network])


def test_the_largest_scan_is_taken() -> None:
    assert len(hosts_of(["10.0.0.0/20"])) == MOST_ADDRESSES - 2


def test_a_peer_is_judged_by_who_answers() -> None:
    peer = Peer(DESK, ("192.168.7.1",), "mdns")
    own = Authority(DESK.join[0], "s1", "home", DESK.fingerprint, open=True)
    other = Authority(DESK.join[0], "s2", "mine", "g" * 52, open=True)
    good = judged(peer, {DESK.join[0]: own})
    assert (good.reachable, good.open, good.reason) == (True, True, "")
    wrong = judged(peer, {DESK.join[0]: other})
    assert not wrong.reachable
    assert "'mine'" in wrong.reason
    assert judged(peer, {DESK.join[0]: "a firewall"}).reason == "a firewall"
    assert "loopback" in judged(Peer(Announcement("n", "a", "s", "h", "f"), (), "mdns"), {}).reason
    assert "found a swarm" in judged(Peer(Announcement("n", "a"), (), "mdns"), {}).reason
