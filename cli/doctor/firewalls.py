"""Firewalls: what their tools say, and what lets a port through. Pure but for :func:`ask_firewall`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cli.doctor.tools import ask

_MAC_TOOL: Final = "/usr/libexec/ApplicationFirewall/socketfilterfw"
_UFW_CONFIG: Final = Path("/etc/ufw/ufw.conf")
_RULE: Final = "swarmplane"


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """One that other machines are to reach."""

    number: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Firewall:
    """The firewall that is in force."""

    tool: str
    """``ufw``, ``firewalld``, ``nft``, ``iptables``, ``pf``, ``macos`` or ``windows``; empty: none."""
    shut: tuple[Port, ...] | None = ()
    """Wanted ports that it does not let through; None: it shows its rules to administrators only."""


def ask_firewall(wanted: Sequence[Port]) -> Firewall:
    """What this machine's firewall does with ``wanted``. It blocks for some seconds at most."""
    if sys.platform == "darwin":
        return _macos(wanted)
    if sys.platform == "win32":
        return _windows(wanted)
    return _ufw(wanted) or _firewalld(wanted) or _nft(wanted) or _iptables(wanted) or Firewall("")


def _ufw(wanted: Sequence[Port]) -> Firewall | None:
    said = ask("ufw", "status")
    if said is None or "inactive" in said.text:
        return None
    if said.status == 0:
        return Firewall("ufw", missing(wanted, ufw_opens(said.text)))
    try:
        enabled = "ENABLED=yes" in _UFW_CONFIG.read_text(encoding="utf-8")
    except OSError:
        enabled = False
    return Firewall("ufw", None) if enabled else None


def _firewalld(wanted: Sequence[Port]) -> Firewall | None:
    state = ask("firewall-cmd", "--state")
    if state is None or state.text.splitlines()[:1] != ["running"]:
        return None
    listed = ask("firewall-cmd", "--list-ports")
    if listed is None or listed.status:
        return Firewall("firewalld", None)
    return Firewall("firewalld", missing(wanted, firewalld_opens(listed.text)))


def _nft(wanted: Sequence[Port]) -> Firewall | None:
    said = ask("nft", "-j", "list", "ruleset")
    if said is None or said.status:
        return None
    shut = nft_shuts(said.text, wanted)
    return Firewall("nft", shut) if shut is not None else None


def _iptables(wanted: Sequence[Port]) -> Firewall | None:
    said = ask("iptables", "-S", "INPUT")
    if said is None or said.status:
        return None
    shut = iptables_shuts(said.text, wanted)
    return Firewall("iptables", shut) if shut is not None else None


def _macos(wanted: Sequence[Port]) -> Firewall:
    rules = ask("pfctl", "-s", "rules")
    if rules is not None and rules.status == 0 and pf_shuts(rules.text, wanted):
        return Firewall("pf", pf_shuts(rules.text, wanted))
    state = ask(_MAC_TOOL, "--getglobalstate")
    if state is None or not macos_is_on(state.text):
        return Firewall("")
    listed = ask(_MAC_TOOL, "--listapps")
    return Firewall("macos", macos_shuts(listed.text if listed is not None else "", sys.executable, wanted))


def _windows(wanted: Sequence[Port]) -> Firewall:
    profiles = ask(
        "powershell", "-NoProfile", "-Command",
        "Get-NetFirewallProfile | Select-Object Name,Enabled | ConvertTo-Json -Compress", limit_s=6.0,
    )  # fmt: skip
    if profiles is None or not windows_is_on(profiles.text):
        return Firewall("")
    rule = ask("netsh", "advfirewall", "firewall", "show", "rule", f"name={_RULE}")
    return Firewall("windows", windows_shuts(rule.text if rule is not None else "", wanted))


def missing(wanted: Iterable[Port], opened: Iterable[tuple[range, str]]) -> tuple[Port, ...]:
    """Those of ``wanted`` that no opened range holds; a range without a protocol is of both."""
    ranges = tuple(opened)
    return tuple(
        one
        for one in sorted(wanted)
        if not any(one.number in numbers and protocol in {"", one.protocol} for numbers, protocol in ranges)
    )


_UFW_LINE: Final = re.compile(r"^(?P<what>\S+)(?: \(v6\))?\s+(?:ALLOW|LIMIT)\b", re.MULTILINE)


def ufw_opens(text: str) -> tuple[tuple[range, str], ...]:
    """Ranges that ``ufw status`` shows as let in; ``Anywhere`` is all ports."""
    found: list[tuple[range, str]] = []
    for match in _UFW_LINE.finditer(text):
        what = match["what"]
        if what == "Anywhere":
            found.append((range(1, 1 << 16), ""))
            continue
        numbers, _, protocol = what.partition("/")
        found += [(_range(part), protocol) for part in numbers.split(",") if _is_range(part)]
    return tuple(found)


def firewalld_opens(text: str) -> tuple[tuple[range, str], ...]:
    """Ranges in the answer of ``firewall-cmd --list-ports``: ``11401/tcp 11403-11405/tcp``."""
    found = [word.partition("/") for word in text.split()]
    return tuple((_range(numbers), protocol) for numbers, _, protocol in found if _is_range(numbers))


def nft_shuts(text: str, wanted: Sequence[Port]) -> tuple[Port, ...] | None:
    """Ports that chains at the input hook of ``nft -j list ruleset`` drop; None: there is no such chain."""
    try:
        items: list[dict[str, Any]] = json.loads(text)["nftables"]
    except (ValueError, KeyError, TypeError):
        return None
    chains = [one["chain"] for one in items if one.get("chain", {}).get("hook") == "input"]
    shutting = [one for one in chains if one.get("policy") == "drop" or _ends_in_drop(items, one)]
    if not chains:
        return None
    shut: set[Port] = set()
    for chain in shutting:
        opened = [pair for rule in _rules(items, chain) for pair in _nft_opens(rule)]
        shut.update(missing(wanted, opened))
    return tuple(sorted(shut))


def _rules(items: Sequence[dict[str, Any]], chain: dict[str, Any]) -> list[list[dict[str, Any]]]:
    place = (chain["family"], chain["table"], chain["name"])
    rules = [one["rule"] for one in items if "rule" in one]
    return [one["expr"] for one in rules if (one["family"], one["table"], one["chain"]) == place]


def _ends_in_drop(items: Sequence[dict[str, Any]], chain: dict[str, Any]) -> bool:
    """Whether the chain's last rule drops or rejects whatever comes to it."""
    rules = _rules(items, chain)
    return bool(rules) and [*map(set, rules[-1])][-1:] in ([{"drop"}], [{"reject"}]) and len(rules[-1]) <= 2  # noqa: PLR2004 - with a counter


def _nft_opens(rule: Sequence[dict[str, Any]]) -> list[tuple[range, str]]:
    """Ranges that ``rule`` accepts whoever sends; none where it asks for more than the port."""
    if not any("accept" in one for one in rule):
        return []
    matches = [one["match"] for one in rule if "match" in one]
    if len(matches) != 1:
        return [] if matches else [(range(1, 1 << 16), "")]
    payload = matches[0]["left"].get("payload", {}) if isinstance(matches[0]["left"], dict) else {}
    if payload.get("field") != "dport" or matches[0]["op"] != "==":
        return []
    right = matches[0]["right"]
    values = right["set"] if isinstance(right, dict) and "set" in right else [right]
    protocol = "" if payload["protocol"] == "th" else str(payload["protocol"])
    found = []
    for value in values:
        low, high = value["range"] if isinstance(value, dict) else (value, value)
        found.append((range(int(low), int(high) + 1), protocol))
    return found


def iptables_shuts(text: str, wanted: Sequence[Port]) -> tuple[Port, ...] | None:
    """Ports that the chain of ``iptables -S INPUT`` drops; None: it drops nothing."""
    lines = text.splitlines()
    if "-P INPUT DROP" not in lines and not any(
        re.fullmatch(r"-A INPUT -j (DROP|REJECT).*", line) for line in lines
    ):
        return None
    opened: list[tuple[range, str]] = []
    for line in lines:
        found = re.fullmatch(
            r"-A INPUT(?: -p (?P<protocol>\w+))?(?: -m (?!state|conntrack)\S+)*"
            r"(?: --dports? (?P<ports>\S+))? -j ACCEPT",
            line,
        )
        if found is None:
            continue
        ports = (found["ports"] or "1:65535").split(",")
        opened += [(_range(part), found["protocol"] or "") for part in ports if _is_range(part)]
    return missing(wanted, opened)


def pf_shuts(text: str, wanted: Sequence[Port]) -> tuple[Port, ...]:
    """Ports that rules of ``pfctl -s rules`` block and no later one passes; the last that matches decides."""
    shut: set[Port] = set()
    for line in text.splitlines():
        words = line.split()
        if words[:1] not in (["block"], ["pass"]) or " out" in line or " from any" not in f"{line} from any":
            continue
        named = re.search(r"port (?:= )?(\d+)", line)
        protocol = re.search(r"proto (\w+)", line)
        hit = {
            one
            for one in wanted
            if (named is None or one.number == int(named[1]))
            and (protocol is None or one.protocol == protocol[1])
        }
        shut = shut | hit if words[0] == "block" else shut - hit
    return tuple(sorted(shut))


def macos_is_on(text: str) -> bool:
    """Whether ``socketfilterfw --getglobalstate`` says that the application firewall is on."""
    return bool(re.search(r"State = [12]|is enabled|is on", text))


def macos_shuts(text: str, program: str, wanted: Sequence[Port]) -> tuple[Port, ...]:
    """All of ``wanted`` unless ``socketfilterfw --listapps`` lets ``program`` take connections."""
    following = text.partition(program)[2].splitlines()[:2]
    return () if any("allow" in line.casefold() for line in following) else tuple(sorted(wanted))


def windows_is_on(text: str) -> bool:
    """Whether a profile of ``Get-NetFirewallProfile`` (as JSON) is enabled."""
    try:
        found = json.loads(text.splitlines()[0]) if text else []
    except ValueError:
        return False
    rows = found if isinstance(found, list) else [found]
    return any(row.get("Enabled") in {1, "True"} for row in rows if isinstance(row, dict))


def windows_shuts(text: str, wanted: Sequence[Port]) -> tuple[Port, ...]:
    """Ports that the rule ``swarmplane``, as ``netsh`` shows it in whatever language, does not name."""
    named = [part for part in re.split(r"[\s,]+", text) if _is_range(part)]
    opened = [(_range(part), "") for part in named] if _RULE in text else []
    return missing(wanted, opened)


def commands(tool: str, ports: Sequence[Port]) -> str:
    """What lets ``ports`` through."""
    found = [
        (",".join(str(one.number) for one in ports if one.protocol == protocol), protocol)
        for protocol in ("tcp", "udp")
    ]
    kinds = [(numbers, protocol) for numbers, protocol in found if numbers]
    each = {
        "ufw": "sudo ufw allow {numbers}/{protocol}",
        "nft": "sudo nft insert rule inet filter input {protocol} dport {{ {numbers} }} accept",
        "iptables": "sudo iptables -I INPUT -p {protocol} -m multiport --dports {numbers} -j ACCEPT",
        "windows": f"netsh advfirewall firewall add rule name={_RULE} dir=in action=allow "
        "protocol={protocol} localport={numbers}",
        "pf": "pass in proto {protocol} to any port {{ {numbers} }}",
    }
    words = "; ".join(each.get(tool, "").format(numbers=numbers, protocol=kind) for numbers, kind in kinds)
    if tool == "firewalld":
        opened = " ".join(f"--add-port={one}" for one in ports)
        return f"sudo firewall-cmd --permanent {opened} && sudo firewall-cmd --reload"
    if tool == "macos":
        return f"sudo {_MAC_TOOL} --add {sys.executable} --unblockapp {sys.executable}"
    return f"add to /etc/pf.conf: {words}; then sudo pfctl -f /etc/pf.conf" if tool == "pf" else words


def _is_range(text: str) -> bool:
    return re.fullmatch(r"\d{1,5}(?:[-:]\d{1,5})?", text) is not None


def _range(text: str) -> range:
    low, _, high = text.replace(":", "-").partition("-")
    return range(int(low), int(high or low) + 1)
