"""A host that becomes an instance: what it has already is neither overwritten nor removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.supervise.founding import enrol_instance
from swarmplane.credentials.join_token import JoinToken
from swarmplane.datadir import DataDir
from swarmplane.errors import AlreadyExistsError
from swarmplane.ids import TokenId


@pytest.mark.parametrize("name", ["store.db", "swarm-secret"])
async def test_a_founder_keeps_its_swarm(tmp_path: Path, name: str) -> None:
    """Without a certificate, as after a crash while it founded. The address is not even asked."""
    data_dir = DataDir(tmp_path)
    data_dir.control_plane.mkdir()
    (data_dir.control_plane / name).write_bytes(b"mine")
    token = JoinToken(TokenId("t"), "s", "f")
    with pytest.raises(AlreadyExistsError, match="keeps a swarm already"):
        await enrol_instance(data_dir, "nowhere.invalid:1", token)
    assert (data_dir.control_plane / name).read_bytes() == b"mine"
