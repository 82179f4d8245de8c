"""A host that was to found a swarm and found one: it joins that, if it is open, or says how to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.finding import Swarm, how_to_join
from cli.output import say
from cli.running import wait_for

if TYPE_CHECKING:
    from swarmplane.datadir import DataDir
    from swarmplane.settings.schema import Settings


def join_open(data_dir: DataDir, settings: Settings, found: Sequence[Swarm]) -> None:
    """Enrol this host in the one open swarm among ``found``.

    Raises:
        click.UsageError: None is open, or several are; says what to type.
    """
    from cli.supervise.founding import enrol_node
    from swarmplane.credentials.join_token import without_token

    able = [one for one in found if one.open]
    if not able:
        raise click.UsageError(f"{how_to_join(found)}\nTo found another beside it: swarmctl up --lan --new")
    if len(able) > 1:
        listed = "; ".join(f"{one.name}: swarmctl join {one.join[0]}" for one in able)
        raise click.UsageError(f"several open swarms are on this network: {listed}")
    swarm = able[0]
    say(f"swarm {swarm.name} is on this network and open; joining it at {swarm.join[0]}, fingerprint "
        f"{swarm.fingerprint}")  # fmt: skip
    record = wait_for(enrol_node(data_dir, settings, swarm.join[0], without_token(swarm.fingerprint)))
    say(f"joined: swarm {record.swarm_name} as node {record.node_name}")
