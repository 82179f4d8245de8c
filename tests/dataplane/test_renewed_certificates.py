"""Connections between nodes live longer than the certificates that they began with."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.dataplane.peer_tls import RETURN_S, PeerTls
from swarmplane.credentials.tls import PeerIdentity
from swarmplane.errors import SwarmError
from swarmplane.ids import NodeId, SubjectId
from tests.fakes.dataplane import CHAT, SWARM, Node, TestSwarm, client

Pair = tuple[Node, Node]


async def test_a_sender_whose_shown_certificate_ended_connects_anew(pair: Pair) -> None:
    a, b = pair
    async with client(a) as http:
        assert (await http.ask(CHAT)).status == 200
        (standing,) = [one for one in b.plane.connections if one.peer is not None]
        assert standing.peer is not None
        standing.peer = replace(standing.peer, not_after_s=time.time() - 1)
        answer = await http.ask(CHAT)
        assert answer.status == 200, "not the 401 of one who has a newer certificate"
    assert standing not in b.plane.connections


async def test_connections_that_show_the_old_certificate_end_with_its_renewal(pair: Pair) -> None:
    a, b = pair
    async with client(a) as http:
        assert (await http.ask(CHAT)).status == 200
        before = b.plane.counters.connections
        assert (await http.ask(CHAT)).status == 200
        assert b.plane.counters.connections == before, "it is kept"
        assert a.tls is not None
        a.tls.reload()
        assert (await http.ask(CHAT)).status == 200
        assert b.plane.counters.connections == before + 1


@pytest.mark.parametrize(
    ("connected_s", "admitted"), [(None, True), (0.0, True), (RETURN_S - 1, True), (RETURN_S, False)]
)
def test_who_ended_in_an_outage_is_excused_until_all_had_time_to_renew(
    tmp_path: Path, connected_s: float | None, admitted: bool
) -> None:
    directory = TestSwarm(tmp_path).credential(NodeId("me"))
    tls = PeerTls(directory, SWARM, denied=lambda: (), connected_s=lambda: connected_s)
    ended = PeerIdentity(NodeId("other"), SWARM, time.time() - 10)
    if admitted:
        tls.admit(ended)
    else:
        with pytest.raises(SwarmError, match="expired"):
            tls.admit(ended)
    barred = PeerTls(directory, SWARM, denied=lambda: {SubjectId("other")}, connected_s=lambda: connected_s)
    with pytest.raises(SwarmError, match="removed"):
        barred.admit(ended)
