"""An authority, and credentials of subjects of its swarm."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmplane.credentials import csr, keys
from swarmplane.credentials.authority import Authority, found_authority, issue
from swarmplane.credentials.files import Credential, save_credential
from swarmplane.credentials.names import Subject
from swarmplane.ids import SwarmId

Make = Callable[..., Path]
SWARM = SwarmId("swarmaaaaaaaa")


@pytest.fixture(scope="session")
def authority() -> Authority:
    # Founded a year ago, so that certificates may have ended long before now.
    return found_authority(SWARM, time.time() - 365 * 86_400)


@pytest.fixture
def make(authority: Authority, tmp_path: Path) -> Make:
    """Directory of a new credential; it ended ``ended_days_ago`` if given."""

    def made(subject: Subject, *, ended_days_ago: float | None = None, by: Authority | None = None) -> Path:
        key, ca = keys.new_private_key(), by or authority
        now_s, life_s = time.time(), None
        if ended_days_ago is not None:
            now_s, life_s = now_s - ended_days_ago * 86_400, 0.0
        certificate = issue(ca, csr.public_key_of(csr.make_csr(key)), subject, now_s, lifetime_s=life_s)
        directory = tmp_path / f"{subject.id}-{ended_days_ago}-{ca is authority}"
        # The holder trusts the real authority, whoever signed for it.
        save_credential(
            directory, Credential(authority.certificate_pem, certificate, keys.private_key_to_pem(key))
        )
        return directory

    return made
