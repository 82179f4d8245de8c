"""Founding: once, whole or not at all, and only with the secret opened again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.services import keyspace
from controlplane.services.founding import open_or_found, secret_is_private
from controlplane.services.own_credentials import (
    _new,
    own_credential,
    renew_admin_credential,
    restore_admin_credential,
    tell_addresses,
)
from controlplane.store.embedded import EmbeddedStore
from swarmplane.clock import SystemClock
from swarmplane.codec import records
from swarmplane.credentials.certificate import is_issued_by
from swarmplane.credentials.files import load_credential, save_credential
from swarmplane.credentials.lifetime import DAY_S
from swarmplane.credentials.names import CONTROL_NAME, JOIN_NAME, Profile, control_subject
from swarmplane.datadir import DataDir
from swarmplane.errors import FailedPreconditionError
from swarmplane.identity import NodeRecord, write_identity
from swarmplane.ids import NodeId, SwarmId


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Any]:
    directory = DataDir(root).control_plane
    directory.mkdir(parents=True, exist_ok=True)
    async with EmbeddedStore.open(directory / "store.db", clock=SystemClock()) as store:
        yield store


async def found(store: Any, root: Path, **more: Any) -> Any:
    return await open_or_found(store, DataDir(root), swarm_name="test", unix_s=time.time, **more)


def files_named(pattern: str, root: Path) -> list[Path]:
    return list(root.rglob(pattern))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="modes mean nothing")
async def test_a_secret_and_all_that_is_made_for_it_are_private(tmp_path: Path) -> None:
    root = tmp_path / "new" / "deep" / "data"
    before = os.umask(0)
    try:
        async with EmbeddedStore.open(tmp_path / "elsewhere" / "store.db", clock=SystemClock()) as store:
            await found(store, root)
    finally:
        os.umask(before)
    made = [root / "controlplane", root, root.parent, root.parent.parent]
    assert [mode(one) for one in made] == [0o700] * 4
    assert mode(root / "controlplane" / "swarm-secret") == 0o600


async def test_what_founding_leaves(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
        keys = {kv.key for kv in (await store.range("")).items}
        generation = await store.get(keyspace.GENERATION)
        everything = b"".join(kv.value for kv in (await store.range("")).items)
    plain = {key for key in keys if not key.startswith(keyspace.AUDITS)}
    assert plain == {"swarm", "ca/key", "store/generation", "people/admin"}
    assert records.Counter.FromString(generation.value).value == 1
    assert authority.secret.value not in everything
    assert b"PRIVATE KEY" not in everything
    secret = DataDir(tmp_path).swarm_secret
    assert len(secret.read_bytes()) == 32
    admin = load_credential(DataDir(tmp_path).context("default"))
    facts = admin.check()
    assert (facts.subject.profile, facts.subject.id) == (Profile.USER, "user:admin")
    assert admin.ca_pem == authority.ca_pem


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
async def test_secrets_are_the_owners_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
        own_credential(authority, DataDir(tmp_path), time.time())
    secret = DataDir(tmp_path).swarm_secret
    for path in (secret, *files_named("key.pem", tmp_path), *files_named("context.json", tmp_path)):
        assert mode(path) == 0o600, path
    assert secret_is_private(secret)
    secret.chmod(0o644)
    assert not secret_is_private(secret)


async def test_opening_again_finds_the_same_swarm(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await found(store, tmp_path)
        admin = load_credential(DataDir(tmp_path).context("default"))
    async with opened(tmp_path) as store:
        revision = await store.revision()
        again = await found(store, tmp_path)
        assert await store.revision() == revision
    assert (again.swarm, again.ca_pem) == (first.swarm, first.ca_pem)
    assert again.ca.key_pem == first.ca.key_pem
    assert load_credential(DataDir(tmp_path).context("default")) == admin


async def test_of_hosts_that_found_on_one_store_at_once_one_does(tmp_path: Path) -> None:
    roots = [tmp_path / str(number) for number in range(4)]

    async def attempt(store: Any, root: Path) -> Any:
        try:
            return await found(store, root)
        except FailedPreconditionError as error:
            return error.message

    async with opened(tmp_path) as store, asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(store, root)) for root in roots]
    results = [task.result() for task in tasks]
    losers = [root for root, result in zip(roots, results, strict=True) if isinstance(result, str)]
    assert len(losers) == 3
    assert all("--swarm-secret-file" in result for result in results if isinstance(result, str))
    assert not [path for root in losers for path in files_named("*.pem", root)]


async def test_without_its_secret_a_swarm_is_neither_opened_nor_founded_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await found(store, tmp_path)
        before = await store.revision()
        DataDir(tmp_path).swarm_secret.unlink()
        with pytest.raises(FailedPreconditionError, match="--swarm-secret-file"):
            await found(store, tmp_path)
        assert await store.revision() == before
    assert not DataDir(tmp_path).swarm_secret.exists()


async def test_another_secret_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await found(store, tmp_path)
        DataDir(tmp_path).swarm_secret.write_bytes(b"x" * 32)
        with pytest.raises(FailedPreconditionError, match="is not the one of swarm 'test'"):
            await found(store, tmp_path)
        DataDir(tmp_path).swarm_secret.write_bytes(b"short")
        with pytest.raises(FailedPreconditionError, match="32 bytes"):
            await found(store, tmp_path)


async def test_the_secret_may_stand_elsewhere(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await found(store, tmp_path)
        elsewhere = tmp_path / "elsewhere"
        DataDir(tmp_path).swarm_secret.rename(elsewhere)
        assert (await found(store, tmp_path, secret_file=elsewhere)).swarm == first.swarm
        with pytest.raises(FailedPreconditionError):
            await found(store, tmp_path, secret_file=tmp_path / "nowhere")


class StoreThatDies:
    """A store whose first transaction never comes back, as when the process is killed in it."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("killed")


async def test_a_founding_that_died_half_way_is_done_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(RuntimeError):
            await found(StoreThatDies(store), tmp_path)
        left = load_credential(DataDir(tmp_path).context("default"))
        assert (await store.range("")).items == ()
        authority = await found(store, tmp_path)
    admin = load_credential(DataDir(tmp_path).context("default"))
    assert admin.certificate_pem != left.certificate_pem
    assert admin.check().subject.swarm == authority.swarm
    assert is_issued_by(admin.certificate_pem, authority.ca_pem)


async def test_somebodys_credential_of_another_swarm_is_not_overwritten(tmp_path: Path) -> None:
    context = DataDir(tmp_path).context("default")
    context.mkdir(parents=True)
    (context / "context.json").write_text(json.dumps({"swarm": "other", "swarm_name": "work"}))
    async with opened(tmp_path) as store:
        with pytest.raises(FailedPreconditionError, match="'work'"):
            await found(store, tmp_path)
        assert await store.get(keyspace.SWARM) is None


async def test_a_store_with_parts_of_a_swarm_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(keyspace.GENERATION, records.Counter(value=3).SerializeToString())
        with pytest.raises(FailedPreconditionError) as caught:
            await found(store, tmp_path)
    assert "empty one" in str(caught.value)


async def test_an_instances_certificate_has_the_names_that_callers_check(tmp_path: Path) -> None:
    from cryptography import x509

    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
    credential = own_credential(authority, DataDir(tmp_path), time.time())
    certificate = x509.load_pem_x509_certificate(credential.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        f"{credential.facts().subject.name}.control.{authority.swarm}",
        CONTROL_NAME,
        JOIN_NAME,
    }


async def test_own_certificates_are_renewed_when_a_third_is_over_and_keep_their_keys(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
    data_dir, now_s = DataDir(tmp_path), time.time()
    first = own_credential(authority, data_dir, now_s)
    assert own_credential(authority, data_dir, now_s + 2 * DAY_S) == first
    renewed = own_credential(authority, data_dir, now_s + 3 * DAY_S)
    assert renewed.key_pem == first.key_pem
    assert renewed.facts().not_after_s > first.facts().not_after_s
    (data_dir.control_plane / "key.pem").write_bytes(b"broken")
    assert own_credential(authority, data_dir, now_s).check()


async def test_the_founders_admin_is_renewed_and_told_where_the_control_plane_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
    data_dir = DataDir(tmp_path)
    directory = data_dir.context("default")
    before = load_credential(directory).facts().not_after_s
    renew_admin_credential(authority, data_dir, "admin", time.time() + 5 * DAY_S)
    assert load_credential(directory).facts().not_after_s == before
    renew_admin_credential(authority, data_dir, "admin", time.time() + 11 * DAY_S)
    assert load_credential(directory).facts().not_after_s > before
    tell_addresses(authority, data_dir, ("127.0.0.1:7",))
    document = json.loads((directory / "context.json").read_text())
    assert document["addresses"] == ["127.0.0.1:7"]
    assert (document["swarm"], document["swarm_name"]) == (authority.swarm, "test")
    assert document["subject"] == "user:admin"


async def test_an_admin_who_logged_out_of_the_founder_comes_back_at_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
    data_dir = DataDir(tmp_path)
    directory = data_dir.context("default")
    assert not restore_admin_credential(authority, data_dir, "admin", time.time()), "it is there"
    shutil.rmtree(directory)
    assert restore_admin_credential(authority, data_dir, "admin", time.time())
    assert load_credential(directory).check().subject.id == "user:admin"


async def test_a_context_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
    data_dir = DataDir(tmp_path)
    path = data_dir.context("default") / "context.json"
    path.write_text(json.dumps({"swarm": "other"}))
    tell_addresses(authority, data_dir, ("127.0.0.1:7",))
    renew_admin_credential(authority, data_dir, "admin", time.time() + 40 * DAY_S)
    assert json.loads(path.read_text()) == {"swarm": "other"}


async def test_an_instance_is_called_as_the_node_beside_it(tmp_path: Path) -> None:
    """Kills: a name at each start; one name for all; the old certificate kept; another swarm's node."""
    data_dir = DataDir(tmp_path)

    def named() -> str:
        facts = own_credential(authority, data_dir, time.time()).facts()
        assert (facts.subject.profile, facts.subject.swarm) == (Profile.CONTROL, authority.swarm)
        return facts.subject.name

    def joined(node: str, swarm: str) -> None:
        credential = own_credential(authority, data_dir, time.time())
        record = NodeRecord(
            node_id=NodeId(node),
            node_name="box",
            swarm_id=SwarmId(swarm),
            swarm_name="test",
            control_addresses=("127.0.0.1:1",),
            join_addresses=(),
            role="node",
        )
        write_identity(data_dir, record, credential)

    async with opened(tmp_path) as store:
        authority = await found(store, tmp_path)
        old = _new(authority, control_subject(authority.swarm), time.time())
        save_credential(data_dir.control_plane, old)
        first = named()
        assert first
        assert named() == first, "it stays"
        joined("n1", "another")
        assert named() == first
        joined("n1", authority.swarm)
        assert named() == "n1"
        assert own_credential(authority, data_dir, time.time()).certificate_pem != old.certificate_pem
