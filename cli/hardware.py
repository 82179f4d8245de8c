"""What a host is made of and how it is now, in words; what is not known is not there."""

from __future__ import annotations

from typing import Any

from swarmplane.hardware.gpus import names
from swarmplane.inventory import Gpu


def hardware(node: dict[str, Any]) -> str:
    """Of a node's document: processor, memory, accelerators, disk."""
    cpu, cpus, gpus = node["cpu"], node["cpus"], node["gpus"]
    words = [f"{cpu or 'processor'}, {cpus} threads" if cpus else cpu]
    if node["memory_bytes"]:
        words.append(f"{_gib(node['memory_bytes'])} of memory")
    if gpus is None:
        words.append("GPU unknown")
    elif gpus:
        words.append(names([Gpu(one["name"], one["kind"], one["memory_bytes"]) for one in gpus]))
    else:
        words.append("no GPU")
    if node["disk_bytes"]:
        words.append(f"disk of {_gib(node['disk_bytes'])}")
    return "; ".join(word for word in words if word)


def condition(node: dict[str, Any]) -> str:
    """Of a node's document: what is left, and what is wrong; empty: nothing is known."""
    now = node["condition"]
    if now is None:
        return ""
    words = []
    if now["free_bytes"] is not None and now["memory_bytes"]:
        words.append(f"{_gib(now['free_bytes'])} of {_gib(now['memory_bytes'])} free for models")
    if now["pressure"]:
        words.append(f"{now['pressure']:.0%} short of memory")
    if now["disk_free_bytes"] is not None:
        words.append(f"{_gib(now['disk_free_bytes'])} of disk free")
    if now["battery_percent"] is not None:
        words.append(f"battery at {now['battery_percent']} %" + (", in use" if now["on_battery"] else ""))
    if now["overheated"]:
        words.append("too hot")
    if now["owner_active"]:
        words.append("somebody works at it")
    return "; ".join(words)


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
