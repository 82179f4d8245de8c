"""Telling a service manager that asked for it how far this host is (systemd's ``sd_notify``)."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
_VARIABLE: Final = "NOTIFY_SOCKET"


def tell(state: str) -> bool:
    """Whether ``state`` was sent; nobody asked for it where there is no ``NOTIFY_SOCKET``. Never waits."""
    name = os.environ.get(_VARIABLE, "")
    if not name.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    # An @ stands for the zero byte with which abstract names begin.
    address = f"\0{name[1:]}" if name.startswith("@") else name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.setblocking(False)
        notified.sendto(state.encode(), address)
        return True
    return False
