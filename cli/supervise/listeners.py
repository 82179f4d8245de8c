"""The sockets a host needs, asked for before anything is started: a busy port is an error, never a move."""

from __future__ import annotations

import contextlib
import os
import socket

from swarmplane.addresses import Address, parse_address
from swarmplane.errors import FailedPreconditionError, UnavailableError
from swarmplane.listening import listening_socket
from swarmplane.settings.schema import Settings


class ClientSockets:
    """Listening sockets of the client listener; none on Windows, where the sidecar opens its own.

    They belong to the parent, so that they outlive a sidecar that dies (PROTOCOL section 6), and a restart of
    the whole host: meanwhile connections wait in them.
    """

    def __init__(self) -> None:
        self._addresses: tuple[str, ...] = ()
        self._sockets: tuple[socket.socket, ...] = ()

    def of(self, settings: Settings) -> tuple[socket.socket, ...]:
        """Those that ``settings`` name: the ones that listen already, where they name the same.

        Raises:
            FailedPreconditionError: A port is busy; names its holder and ``--listen``.
        """
        addresses = settings.client_listeners()
        if addresses != self._addresses:
            self.close()
            with contextlib.ExitStack() as held:
                sockets = tuple(
                    held.enter_context(_listen(parse_address(text), "--listen")) for text in addresses
                )
                if os.name != "nt":
                    held.pop_all()
                    self._addresses, self._sockets = addresses, sockets
            for one in self._sockets:
                os.set_inheritable(one.fileno(), True)
        return self._sockets

    def close(self) -> None:
        """Listen no more."""
        for one in self._sockets:
            one.close()
        self._addresses = self._sockets = ()


def check_free(settings: Settings, *, founder: bool) -> None:
    """That the fixed ports of the processes to come are free now.

    Raises:
        FailedPreconditionError: One is busy; names its holder and the flag.
    """
    wanted = [(settings.admin.listen, "--admin-listen")]
    if settings.telemetry.metrics_listen:
        wanted.append((settings.telemetry.metrics_listen, "--metrics-listen"))
    if settings.peer.listen:
        wanted.append((settings.peer.listen, "--peer-listen"))
    if founder:
        wanted += [
            (settings.control_listener(), "--control-listen"),
            (settings.join_listener(), "--join-listen"),
            (settings.control.console_listen, "--console-listen"),
        ]
        if settings.control.metrics_listen:
            wanted.append((settings.control.metrics_listen, "--control-metrics-listen"))
    for text, flag in wanted:
        address = parse_address(text)
        if address.port:
            _listen(address, flag).close()


def _listen(address: Address, flag: str) -> socket.socket:
    try:
        return listening_socket(address, flag=flag)
    except UnavailableError as error:
        # It stays so until somebody acts: no status that says to try again.
        raise FailedPreconditionError(error.message) from None
