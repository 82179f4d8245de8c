"""What lets a host into a swarm: a join token, or the fingerprint of an open swarm that a person trusts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cli.finding import Swarm, agree, choose_open_swarm, find_swarm
from cli.running import wait_for
from cli.tokenflags import token_given, token_text
from swarmplane.credentials.join_token import JoinToken, parse_join_token, without_token
from swarmplane.errors import SwarmError

if TYPE_CHECKING:
    from swarmplane.settings.schema import Settings


def admission(
    settings: Settings, address: str, token_file: str | None, token: str | None, *, yes: bool
) -> tuple[str, JoinToken]:
    """Where to enrol and with what.

    Args:
        settings: Of the host; how the local network is searched where there is no ``address``.
        address: As it was typed; empty: to be found.
        token_file: As it was typed.
        token: As it was typed.
        yes: Whether an open swarm is trusted without a question.

    Raises:
        SwarmError: No swarm was found, or what was given is no token.
        click.UsageError: A token is missing, or somebody would have to be asked.
    """
    if token_given(token_file, token):
        given = parse_join_token(token_text(token_file, token))
        return address or find_swarm(settings, given.fingerprint), given
    if not address:
        swarm = choose_open_swarm(settings, _named(settings), yes=yes)
        return swarm.join[0], without_token(swarm.fingerprint)
    if (there := _open_swarm_at(address)) is not None:
        agree(there, yes=yes)
        return address, without_token(there.fingerprint)
    return address, parse_join_token(token_text(token_file, token))


def _named(settings: Settings) -> str:
    return settings.swarm.name if "name" in settings.swarm.model_fields_set else ""


def _open_swarm_at(address: str) -> Swarm | None:
    """The swarm at ``address`` if it is open. One that can't be asked is told of when its token is used."""
    from swarmplane.enrollment import ask_authority

    with contextlib.suppress(SwarmError):
        told = wait_for(ask_authority(address))
        if told.open:
            return Swarm(told.swarm_name, told.fingerprint, (address,), open=True)
    return None
