"""What tools of firewalls said on real machines, and what is made of it."""

from __future__ import annotations

import json

import pytest

from cli.doctor.firewalls import (
    Port,
    commands,
    firewalld_opens,
    iptables_shuts,
    macos_is_on,
    macos_shuts,
    missing,
    nft_shuts,
    pf_shuts,
    ufw_opens,
    windows_is_on,
    windows_shuts,
)

MDNS, CLIENT, CONTROL, PEER = Port(5353, "udp"), Port(11400), Port(11401), Port(11403)
WANTED = (MDNS, CLIENT, CONTROL, PEER)

UFW = """Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
11400:11402/tcp            ALLOW       192.168.1.0/24
5353                       ALLOW       Anywhere
11403/udp                  ALLOW       Anywhere
11403/tcp                  DENY        Anywhere
22/tcp (v6)                ALLOW       Anywhere (v6)
"""
FIREWALLD = "11400-11401/tcp 5353/udp\n"
IPTABLES = """-P INPUT DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -p tcp -m multiport --dports 11400,11401 -j ACCEPT
-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 11403 -j ACCEPT
-A INPUT -p udp -m udp --dport 5353 -j ACCEPT
"""
PF = """scrub-anchor "com.apple/*" all fragment reassemble
anchor "com.apple/*" all
block drop in all
pass in proto tcp from any to any port = 22 flags S/SA keep state
pass in proto tcp from any to any port = 11400 flags S/SA keep state
pass in proto udp from any to any port = 5353 keep state
pass out all flags S/SA keep state
"""
MAC_APPS = """ALF: total number of apps = 2

1 :  /usr/libexec/configd
\t\t ( Allow incoming connections )

2 :  /opt/swarm/bin/python3.12
\t\t ( Block incoming connections )
"""
WINDOWS = '[{"Name":"Domain","Enabled":0},{"Name":"Private","Enabled":1},{"Name":"Public","Enabled":1}]\r\n'
RULE = """
Regelname:                            swarmplane
----------------------------------------------------------------------
Aktiviert:                            Ja
Richtung:                             Eingehend
Protokoll:                            TCP
Lokaler Port:                         11400,11401
Aktion:                               Zulassen
"""


def _nft(policy: str, *rules: list[object]) -> str:
    place = {"family": "inet", "table": "filter"}
    chain = {**place, "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": policy}
    items = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "filter"}},
        {"chain": chain},
    ]
    items += [{"rule": {**place, "chain": "input", "handle": n, "expr": one}} for n, one in enumerate(rules)]
    return json.dumps({"nftables": items})


def _port(right: object, protocol: str = "tcp") -> list[object]:
    left = {"payload": {"protocol": protocol, "field": "dport"}}
    return [{"match": {"op": "==", "left": left, "right": right}}, {"accept": None}]


ESTABLISHED: list[object] = [
    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
    {"accept": None},
]


def test_ufw() -> None:
    assert missing(WANTED, ufw_opens(UFW)) == (PEER,)
    assert missing(WANTED, ufw_opens("Status: active\n\nAnywhere    ALLOW    192.168.0.0/16\n")) == ()


def test_firewalld() -> None:
    assert missing(WANTED, firewalld_opens(FIREWALLD)) == (PEER,)
    assert missing(WANTED, firewalld_opens("")) == WANTED


def test_nft() -> None:
    several = _port({"set": [22, {"range": [11400, 11401]}]})
    assert nft_shuts(_nft("drop", ESTABLISHED, several, _port(5353, "udp")), WANTED) == (PEER,)
    assert nft_shuts(_nft("accept", ESTABLISHED), WANTED) == ()
    assert nft_shuts(_nft("accept", several, [{"counter": None}, {"drop": None}]), WANTED) == (MDNS, PEER)
    assert nft_shuts(_nft("drop", [{"accept": None}]), WANTED) == ()
    assert nft_shuts(_nft("drop", [*_port(11403)[:1], *_port(11403, "udp")]), (PEER,)) == (PEER,)
    assert nft_shuts('{"nftables": [{"metainfo": {}}]}', WANTED) is None
    assert nft_shuts("Operation not permitted", WANTED) is None


def test_iptables() -> None:
    assert iptables_shuts(IPTABLES, WANTED) == (PEER,)
    assert iptables_shuts("-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 25 -j DROP\n", WANTED) is None
    assert (
        iptables_shuts("-P INPUT ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable", WANTED)
        == WANTED
    )


def test_pf() -> None:
    assert pf_shuts(PF, WANTED) == (CONTROL, PEER)
    assert pf_shuts("pass in all\n", WANTED) == ()


def test_macos() -> None:
    assert macos_is_on("Firewall is enabled. (State = 1)")
    assert not macos_is_on("Firewall is disabled. (State = 0)")
    assert macos_shuts(MAC_APPS, "/opt/swarm/bin/python3.12", WANTED) == WANTED
    allowed = MAC_APPS.replace("Block", "Allow")
    assert macos_shuts(allowed, "/opt/swarm/bin/python3.12", WANTED) == ()
    assert macos_shuts(allowed, "/opt/other/python3.12", WANTED) == WANTED


def test_windows() -> None:
    assert windows_is_on(WINDOWS)
    assert not windows_is_on(WINDOWS.replace(":1", ":0"))
    assert not windows_is_on("Zugriff verweigert")
    assert windows_shuts(RULE, WANTED) == (MDNS, PEER)
    assert windows_shuts("No rules match the specified criteria.", WANTED) == WANTED


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("ufw", "sudo ufw allow 11401,11403/tcp; sudo ufw allow 5353/udp"),
        (
            "firewalld",
            (
                "sudo firewall-cmd --permanent --add-port=5353/udp --add-port=11401/tcp --add-port=11403/tcp "
                "&& sudo firewall-cmd --reload"
            ),
        ),
        (
            "nft",
            (
                "sudo nft insert rule inet filter input tcp dport { 11401,11403 } accept; "
                "sudo nft insert rule inet filter input udp dport { 5353 } accept"
            ),
        ),
        ("iptables", "sudo iptables -I INPUT -p tcp -m multiport --dports 11401,11403 -j ACCEPT; "),
        ("pf", "add to /etc/pf.conf: pass in proto tcp to any port { 11401,11403 }; "),
        ("macos", "sudo /usr/libexec/ApplicationFirewall/socketfilterfw --add "),
        (
            "windows",
            (
                "netsh advfirewall firewall add rule name=swarmplane dir=in action=allow protocol=tcp "
                "localport=11401,11403; "
            ),
        ),
    ],
)
def test_each_has_its_command(tool: str, command: str) -> None:
    assert commands(tool, (MDNS, CONTROL, PEER)).startswith(command)
