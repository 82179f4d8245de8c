from __future__ import annotations

import time
from pathlib import Path

import pytest

from swarmplane.client.targets import chosen_target, node_target
from swarmplane.contexts import (
    Context,
    context_names,
    current_name,
    read_context,
    remove_context,
    use_context,
    write_context,
)
from swarmplane.credentials import csr, keys
from swarmplane.credentials.authority import found_authority, issue
from swarmplane.credentials.files import Credential
from swarmplane.credentials.names import node_subject, user_subject
from swarmplane.datadir import DataDir
from swarmplane.errors import InvalidRequestError, NotFoundError
from swarmplane.identity import NodeRecord, forget_identity, is_joined, read_record, write_identity
from swarmplane.ids import NodeId, SwarmId
from swarmplane.runtime import Runtime, write_runtime

SWARM = SwarmId("swarm1")


@pytest.fixture(scope="module")
def credential() -> Credential:
    authority = found_authority(SWARM, time.time())
    key = keys.new_private_key()
    pem = issue(authority, csr.public_key_of(csr.make_csr(key)), user_subject("ada", SWARM), time.time())
    return Credential(authority.certificate_pem, pem, keys.private_key_to_pem(key))


def _context(name: str, *addresses: str) -> Context:
    return Context(name, SWARM, "home", addresses or ("10.0.0.1:11401",), "user:ada", ("10.0.0.1:11405",))


def test_contexts_there_and_back(tmp_path: Path, credential: Credential) -> None:
    data_dir = DataDir(tmp_path)
    assert context_names(data_dir) == []
    assert current_name(data_dir) == ""
    write_context(data_dir, _context("work"), credential)
    assert read_context(data_dir, "work") == _context("work")
    assert current_name(data_dir) == "work", "the only one"
    write_context(data_dir, _context("lab"), credential)
    assert current_name(data_dir) == "", "which of two must be said"
    write_context(data_dir, _context("default"), credential)
    assert current_name(data_dir) == "default"
    use_context(data_dir, "lab")
    assert current_name(data_dir) == "lab"
    assert context_names(data_dir) == ["default", "lab", "work"]
    remove_context(data_dir, "lab")
    assert current_name(data_dir) == "default"
    with pytest.raises(NotFoundError, match="default, work"):
        use_context(data_dir, "lab")


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 64])
def test_names_never_leave_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        read_context(DataDir(tmp_path), name)


def test_who_to_act_as(tmp_path: Path, credential: Credential) -> None:
    data_dir = DataDir(tmp_path)
    with pytest.raises(NotFoundError, match="swarmctl join"):
        chosen_target(data_dir)
    record = NodeRecord("n1", "box", SWARM, "home", ("10.0.0.1:11401",), ("10.0.0.1:11405",))
    write_identity(data_dir, record, credential)
    assert chosen_target(data_dir) == node_target(data_dir)
    assert chosen_target(data_dir).directory == data_dir.node
    write_context(data_dir, _context("default"), credential)
    assert chosen_target(data_dir).directory == data_dir.context("default")
    write_context(data_dir, _context("other", "10.0.0.9:1"), credential)
    assert chosen_target(data_dir, "other").addresses == ("10.0.0.9:1",)
    write_runtime(data_dir, Runtime(1, "n1", "box", SWARM, {}, {"control": "127.0.0.1:7"}))
    assert chosen_target(data_dir).addresses == ("127.0.0.1:7", "10.0.0.1:11401"), "an own instance first"
    write_runtime(data_dir, Runtime(1, "n1", "box", "another", {}, {"control": "127.0.0.1:7"}))
    assert chosen_target(data_dir).addresses == ("10.0.0.1:11401",)


def test_identity_there_and_back(tmp_path: Path, credential: Credential) -> None:
    data_dir = DataDir(tmp_path)
    assert read_record(data_dir) is None
    record = NodeRecord("n1", "box", SWARM, "home", ("a:1", "b:2"), ("a:3",))
    write_identity(data_dir, record, credential)
    assert is_joined(data_dir)
    assert read_record(data_dir) == record
    forget_identity(data_dir)
    assert not is_joined(data_dir)
    assert list(data_dir.node.iterdir()) == []


def test_an_identity_is_written_whole_or_not_at_all(
    tmp_path: Path, credential: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = DataDir(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swarmplane.identity.save_credential", full)
    with pytest.raises(OSError, match="No space"):
        write_identity(data_dir, NodeRecord("n1", "box", SWARM, "home", (), ()), credential)
    assert not data_dir.node.exists()


def test_subjects_of_nodes_and_people_differ() -> None:
    assert node_subject(NodeId("ada"), SWARM).id != user_subject("ada", SWARM).id
