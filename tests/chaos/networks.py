"""Where the processes of a run are: each on a machine of its own, as far as its network goes.

With root on Linux each has a network namespace on a bridge, so that its cable can be pulled. The runner is in
the namespace of the bridge; nothing is changed in the machine's own network. Elsewhere all are on loopback.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

HUB_VARIABLE = "CHAOS_HUB"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


@dataclass(frozen=True)
class Place:
    """Of one process."""

    address: str
    namespace: str = ""
    cable: str = ""

    @property
    def command(self) -> list[str]:
        """Runs what follows there, in a process of the same id."""
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []

    def port(self) -> int:
        """One that nobody listens on here; in a namespace of one's own every port is free."""
        if self.namespace:
            return 20_000 + secrets.randbelow(10_000)
        with socket.socket() as one:
            one.bind((self.address, 0))
            return int(one.getsockname()[1])

    def cut(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self.cable, "down")

    def heal(self) -> None:
        """Plug it in."""
        _ip("link", "set", self.cable, "up")


class Network:
    """Places by name; see the module."""

    def __init__(self, names: Sequence[str]) -> None:
        hub = os.environ.get(HUB_VARIABLE, "")
        self.can_be_cut = bool(hub)
        if not hub:
            self.places = {name: Place("127.0.0.1") for name in names}
            return
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "bridge", "type", "bridge")
        _ip("address", "add", "10.66.0.1/24", "dev", "bridge")
        _ip("link", "set", "bridge", "up")
        self.places = {name: self._place(hub, name, n) for n, name in enumerate(names, 10)}

    def _place(self, hub: str, name: str, number: int) -> Place:
        namespace, cable = f"{hub}{name}", f"to-{name}"
        _ip("netns", "add", namespace)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", namespace)
        _ip("link", "set", cable, "master", "bridge")
        _ip("link", "set", cable, "up")
        _ip("-n", namespace, "address", "add", f"10.66.0.{number}/24", "dev", "cable")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", "cable", "up")
        return Place(f"10.66.0.{number}", namespace, cable)


def inside(module: str, arguments: Sequence[str]) -> int | None:
    """Run ``module`` again within a hub, and remove all namespaces afterwards; None: there can be none.

    Whatever still runs in one of them then, which is ours, is killed.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        return None
    hub = f"ch{secrets.token_hex(3)}"
    try:
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "probe", "type", "bridge")
        _ip("-n", hub, "link", "delete", "probe")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        _remove(hub)
        return None
    try:
        child = subprocess.Popen(
            ["ip", "netns", "exec", hub, sys.executable, "-m", module, *arguments],
            env=os.environ | {HUB_VARIABLE: hub},
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: child.send_signal(signal.SIGTERM))
        return child.wait()
    finally:
        _remove(hub)


def _remove(hub: str) -> None:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    for namespace in [line.split()[0] for line in listed.stdout.splitlines() if line.startswith(hub)]:
        pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
        for pid in pids.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
