"""Every check, in the order shown. To add one, put a ``Check`` into the ``CHECKS`` of a module here.

A module that is new is named once below. Each check needs a test that breaks its fact and sees the fix; the
test of the list finds those without.
"""

from __future__ import annotations

from typing import Final

from cli.doctor.check import AnyCheck
from cli.doctor.checks import (
    backends,
    control,
    credentials,
    firewall,
    listeners,
    machine,
    models,
    network,
    nodes,
    openness,
    processes,
    rpc,
    store,
    surroundings,
)

ALL: Final[tuple[AnyCheck, ...]] = (
    *processes.CHECKS,
    *listeners.CHECKS,
    *network.CHECKS,
    *firewall.CHECKS,
    *surroundings.CHECKS,
    *machine.CHECKS,
    surroundings.SLEEP,
    *control.CHECKS,
    *credentials.CHECKS,
    *openness.CHECKS,
    *nodes.CHECKS,
    *store.CHECKS,
    *backends.CHECKS,
    *models.CHECKS,
    *rpc.CHECKS,
)
